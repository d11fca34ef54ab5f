/*
 * Rules of the protocol that need a moment between two calls: at the seam, where a test can be that moment.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import * as protocol from '../lib/core/protocol.js'
import { type Context, GUARD_SUFFIX, newWatch, type Request } from '../lib/core/protocol.js'
import { decode, encode, type Stamp } from '../lib/core/stamp.js'
import { type System, system } from '../lib/core/system.js'
import { tempFolder } from './support.js'

const [FIRST, OTHER] = [1001, 1002]
const idOf = (pid: number) => `000000000000${pid}`
const request = (pid: number, ttlMs = 60_000): Request => ({ id: idOf(pid), adopt: undefined, fields: { owner: String(pid), ttlMs, renews: true } })
const detached = (pid: number): Request => ({ ...request(pid), fields: { processes: [], ttlMs: 60_000, renews: false } })
/** The guard of a living process. */
const guardOf = (pid: number, path: string) => fs.writeFileSync(path + GUARD_SUFFIX, encode({ v: 1, id: idOf(pid), processes: [{ pid, start: '1' }], boot: 'b', pidns: '1', timens: '1', host: 'h' }))

function machine() {
  const path = join(tempFolder(), 'f.lock')
  const skipped = { boot: 0, wall: 0 }
  const dead = new Set<number>()
  const context = (pid: number): Context & { system: System } => ({
    disowned: new Map(),
    system: {
      ...system,
      clock: () => {
        const { boot, wall } = system.clock()
        return { boot: boot + skipped.boot, wall: wall + skipped.wall }
      },
      machine: () => ({ boot: 'b', pidns: '1', timens: '1', host: 'h', self: { pid, start: '1' }, granularityMs: 50 }),
      process: (asked) => ({ exists: !dead.has(asked), start: '1' }),
    },
  })
  /** Does something before a call, as often as it says. */
  const before = <C extends 'create' | 'read' | 'write' | 'lstat'>({ system: it }: Context, call: C, act: (...args: Parameters<System[C]>) => unknown, times = Infinity) => {
    const real = it[call] as (...args: any[]) => unknown
    ;(it as any)[call] = (...args: any[]) => {
      if (times-- > 0) act(...(args as Parameters<System[C]>))
      return real(...args)
    }
  }
  const skip = (clock: 'boot' | 'wall' | 'both', ms: number) => {
    if (clock !== 'wall') skipped.boot += ms
    if (clock !== 'boot') skipped.wall += ms
  }
  const text = () => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined)
  return { path, context, before, skip, dead, text, names: () => fs.readdirSync(join(path, '..')).sort() }
}

const clocks = ['boot', 'wall', 'both'] as const

describe('two equal readings', () => {
  test('a renewal that was read torn, in a file that is old, does not cost a living holder its lock', () => {
    const { path, context, text } = machine()
    const [holder, judge] = [context(FIRST), context(OTHER)]
    expect(protocol.acquire(holder, path, request(FIRST, 3_600_000), newWatch()).done).toBe(true)
    const old = Date.now() / 1000 - 700
    fs.utimesSync(path, old, old)
    const whole = text()
    // The reading before the guard falls into a write: the old mtime, half of the text.
    const real = judge.system.read
    let readings = 0
    judge.system.read = (fd) => (++readings === 1 ? real(fd).slice(0, 60) : real(fd))
    expect(protocol.acquire(judge, path, request(OTHER), newWatch())).toMatchObject({ done: false, verdict: 'alive' })
    expect(text()).toBe(whole)
  })

  test('a lock that is renewed between the judgement and the unlink stays', () => {
    const { path, context, before, skip, text } = machine()
    const [holder, judge] = [context(FIRST), context(OTHER)]
    protocol.acquire(holder, path, { ...request(FIRST), fields: { owner: 'first', ttlMs: 60_000, renews: false } }, newWatch())
    skip('both', 60_001)
    // Same token, same text but for the times; the guard is the judge's by now.
    before(judge, 'lstat', () => fs.writeFileSync(path, encode({ ...JSON.parse(text()!), bootMs: holder.system.clock().boot })), 1)
    expect(protocol.acquire(judge, path, request(OTHER), newWatch())).toMatchObject({ done: false, verdict: 'alive' })
    expect(text()).toContain(idOf(FIRST))
  })
})

test('a shell that renews by touch(1) between the judgement and the unlink keeps its lock: equal means the mtime, too', () => {
  const { path, context, before, text } = machine()
  const judge = context(OTHER)
  fs.writeFileSync(path, '{"v":1,"owner":"a shell","ttlMs":1000}')
  const old = Date.now() / 1000 - 120
  fs.utimesSync(path, old, old)
  before(judge, 'lstat', () => fs.utimesSync(path, Date.now() / 1000, Date.now() / 1000), 1)
  expect(protocol.acquire(judge, path, request(OTHER), newWatch())).toMatchObject({ done: false, verdict: 'out-of-sight' })
  expect(text()).toContain('a shell')
})

describe.each(clocks)('who is late by the %s clock', (clock) => {
  test.each([[60_000, 1_900, true], [60_000, 2_100, false], [Infinity, 2_100, false], [1_500, 450, true], [1_500, 600, false]])('between creating a lock (TTL %d) and writing it, by %d ms: has it: %s', (ttl, ms, has) => {
    const { path, context, before, skip, names } = machine()
    const slow = context(FIRST)
    // Its guards are not late: it removes what it was late with.
    before(slow, 'create', (at) => at === path && skip(clock, ms))
    const result = protocol.acquire(slow, path, { ...request(FIRST), fields: { owner: 'slow', ttlMs: ttl === Infinity ? undefined : ttl, renews: false } }, newWatch())
    expect(result.done).toBe(has)
    if (!has) expect(names()).toEqual([])
  })

  test.each([[29_000, true], [31_000, false]])('with a guard that it has had for %d ms: unlinks and confirms: %s', (ms, does) => {
    const { path, context, before, skip, text } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, { ...request(FIRST), fields: { owner: 'first', renews: true } }, newWatch())
    before(first, 'read', () => skip(clock, ms), 1)
    expect(protocol.confirm(first, path, idOf(FIRST), newWatch())).toMatchObject({ done: does })
    protocol.cleanUp(first, newWatch())
    before(first, 'read', () => skip(clock, ms), 1)
    expect(protocol.release(first, path, idOf(FIRST), newWatch())).toMatchObject({ done: does })
    expect(text() === undefined).toBe(does)
  })
})

test('who is late and cannot write leaves what is at its path: it may be a successor’s', () => {
  const { path, context, skip, text } = machine()
  const [slow, other] = [context(FIRST), context(OTHER)]
  slow.system.write = () => {
    skip('both', 6_000)
    fs.unlinkSync(path)
    expect(protocol.acquire(other, path, request(OTHER), newWatch()).done).toBe(true)
    throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
  }
  expect(() => protocol.acquire(slow, path, request(FIRST), newWatch())).toThrow('ENOSPC')
  expect(text()).toContain(idOf(OTHER))
})

test('who finds, under the guard, that another one has recovered is not told that it did', () => {
  const { path, context, before, dead } = machine()
  const [slow, other] = [context(FIRST), context(OTHER)]
  const DEAD = 1003
  protocol.acquire(context(DEAD), path, request(DEAD), newWatch())
  dead.add(DEAD)
  const told: unknown[] = []
  const take = (it: Context, pid: number) => {
    const taken = protocol.acquire(it, path, request(pid), newWatch())
    if (taken.done) told.push(taken.recovered?.owner)
  }
  let isFirst = true
  before(slow, 'create', (at) => {
    if (at !== path + GUARD_SUFFIX || !isFirst) return
    isFirst = false
    take(other, OTHER)
    protocol.release(other, path, idOf(OTHER), newWatch())
  })
  take(slow, FIRST)
  expect(told).toEqual([String(DEAD), undefined])
})

test('a person breaks what it looked at, not what came there since, also where that has no id', () => {
  const { path, context, text } = machine()
  fs.writeFileSync(path, 'not ours\n')
  const { reading } = protocol.inspect(context(FIRST), path)
  fs.writeFileSync(path, '{"v":1,"owner":"a shell"}')
  expect(protocol.breakOpen(context(FIRST), path, reading, newWatch())).toBe('changed')
  expect(text()).toContain('a shell')
})

test('who waits with the token of a lock without a process is not refused by it', () => {
  const { path, context } = machine()
  const it = context(FIRST)
  protocol.acquire(it, path, detached(OTHER), newWatch())
  const watch = newWatch()
  // By the clock of the files, as it is known after a guard: the TTL runs.
  watch.fileClock = Date.now() - it.system.clock().boot
  expect(protocol.wouldRefuse(it, path, request(FIRST), watch)).toMatchObject({ done: false })
  expect(protocol.wouldRefuse(it, path, { ...request(FIRST), adopt: idOf(OTHER) }, watch)).toBeUndefined()
})

test('an old guard that others replaced is not removed by its first owner', () => {
  const { path, context, before, skip } = machine()
  const first = context(FIRST)
  protocol.acquire(first, path, request(FIRST), newWatch())
  before(first, 'read', () => {
    skip('both', 61_000)
    guardOf(OTHER, path)
  }, 1)
  protocol.release(first, path, idOf(FIRST), newWatch())
  protocol.cleanUp(first, newWatch())
  expect(fs.readFileSync(path + GUARD_SUFFIX, 'utf8')).toContain(idOf(OTHER))
})

describe('a renewal', () => {
  test('that finds its lease over is not believed while somebody has the guard', () => {
    const { path, context, skip } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, request(FIRST), newWatch())
    guardOf(OTHER, path)
    expect(protocol.renew(first, path, idOf(FIRST), newWatch())).toMatchObject({ done: true })
    skip('both', 60_001)
    expect(protocol.renew(first, path, idOf(FIRST), newWatch())).toMatchObject({ done: false, verdict: 'guarded' })
  })

  test('into a file whose mtime stood still for a TTL is not believed either: others judge by that', () => {
    const { path, context } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, request(FIRST), newWatch())
    guardOf(OTHER, path)
    const old = Date.now() / 1000 - 61
    fs.utimesSync(path, old, old)
    expect(protocol.renew(first, path, idOf(FIRST), newWatch())).toMatchObject({ done: false, verdict: 'guarded' })
  })

  test('that a co-owner on another machine has written before is written by our clock, and in our name', () => {
    const { path, context } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, detached(FIRST), newWatch())
    const afar: Context = { ...context(OTHER), system: { ...first.system, machine: () => ({ boot: 'c', pidns: '2', timens: '2', host: 'i', granularityMs: 50 }), clock: () => ({ boot: 7, wall: Date.now() }) } }
    expect(protocol.confirm(afar, path, idOf(FIRST), newWatch())).toMatchObject({ stamp: { boot: 'c', bootMs: 7 } })
    expect(protocol.renew(first, path, idOf(FIRST), newWatch())).toMatchObject({ stamp: { boot: 'b', host: 'h' } })
    const { reading } = protocol.inspect(first, path)
    expect((reading as { stamp: Stamp }).stamp.bootMs).toBeGreaterThan(7)
  })

  test('by token leaves a lock that its process renews as it is, and one that nobody renews by itself begins anew', () => {
    const { path, context, text, skip, dead } = machine()
    const [first, other] = [context(FIRST), context(OTHER)]
    protocol.acquire(first, path, request(FIRST), newWatch())
    const before = text()
    skip('both', 1_000)
    expect(protocol.renewShared(other, path, idOf(FIRST), newWatch())).toMatchObject({ done: true, stamp: { id: idOf(FIRST) } })
    expect(text()).toBe(before)
    dead.add(FIRST)
    expect(protocol.renewShared(other, path, idOf(FIRST), newWatch())).toBe('lost')
    protocol.acquire(other, path, detached(OTHER), newWatch())
    const since = other.system.clock().boot
    skip('both', 1_000)
    const renewal = protocol.renewShared(first, path, idOf(OTHER), newWatch())
    expect((renewal as { stamp: Stamp }).stamp.bootMs).toBeGreaterThanOrEqual(since + 1_000)
    expect(text()).not.toBe(before)
  })

  test('of a lock that may have co-owners waits for the guard, so that no older time is written over a newer one', () => {
    const { path, context } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, detached(FIRST), newWatch())
    guardOf(OTHER, path)
    expect(protocol.renew(first, path, idOf(FIRST), newWatch())).toMatchObject({ done: false, verdict: 'guarded' })
  })

  test('that lies ahead of our clock, half written or by a machine that was set back, is not believed on a look', () => {
    const { path, context } = machine()
    const first = context(FIRST)
    const { stamp } = protocol.acquire(first, path, request(FIRST), newWatch()) as { stamp: Stamp }
    expect(protocol.look(first, path, idOf(FIRST))).toMatchObject({ bootMs: stamp.bootMs })
    fs.writeFileSync(path, encode({ ...stamp, bootMs: stamp.bootMs! + 100_000 }))
    expect(protocol.look(first, path, idOf(FIRST))).toBeUndefined()
  })

  test('that binds a lock which a co-owner elsewhere has renewed says where the process is', () => {
    const { path, context } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, detached(FIRST), newWatch())
    const afar: Context = { ...context(OTHER), system: { ...first.system, machine: () => ({ boot: 'c', pidns: '2', timens: '2', host: 'i', granularityMs: 50 }) } }
    protocol.confirm(afar, path, idOf(FIRST), newWatch())
    protocol.confirm(first, path, idOf(FIRST), newWatch(), (stamp) => ({ ...stamp, processes: [{ pid: FIRST, start: '1' }] }))
    expect(protocol.inspect(first, path).reading).toMatchObject({ stamp: { boot: 'b', pidns: '1', processes: [{ pid: FIRST }] } })
  })

  test('under the guard is believed, too, where the machine has no boot id: others go by the time of the file', () => {
    const { path, context, skip } = machine()
    const first = context(FIRST)
    first.system.machine = () => ({ host: 'h', granularityMs: 50 })
    protocol.acquire(first, path, detached(FIRST), newWatch())
    skip('both', 50_000)
    const renewal = protocol.confirm(first, path, idOf(FIRST), newWatch())
    expect(protocol.leaseLeft(first.system, (renewal as { stamp: Stamp }).stamp)).toBeGreaterThan(50_000)
    expect(protocol.inspect(first, path).reading).not.toMatchObject({ stamp: { bootMs: expect.anything() } })
  })

  test.each([[9_995_000, 10_000_000], [999_999_999, 1_000_000_000], [481_588_232, 481_598_239]])('from %d to %d, read half written, shows no earlier time, wherever it is cut', (before, after) => {
    const [old, renewed] = [before, after].map((bootMs) => encode({ v: 1, id: idOf(FIRST), boot: 'b', pidns: '1', timens: '1', ttlMs: 60_000, renews: false, bootMs, fence: 1 }))
    for (let cut = 0; cut <= old!.length; cut++) {
      const decoded = decode(renewed!.slice(0, cut) + old!.slice(cut))
      expect(decoded).toMatchObject({ kind: 'stamp' })
      expect((decoded as { stamp: Stamp }).stamp.bootMs).toBeGreaterThanOrEqual(before)
    }
  })

  test('into a file that no longer is at the path is lost, and the successor is untouched', () => {
    const { path, context, before } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, request(FIRST), newWatch())
    before(first, 'write', () => {
      fs.unlinkSync(path)
      protocol.acquire(context(OTHER), path, request(OTHER), newWatch())
    }, 1)
    expect(protocol.renew(first, path, idOf(FIRST), newWatch())).toBe('lost')
    expect(fs.readFileSync(path, 'utf8')).toContain(idOf(OTHER))
  })

  test('under the guard, into a file that a person replaces meanwhile, is lost', () => {
    const { path, context, before } = machine()
    const first = context(FIRST)
    protocol.acquire(first, path, request(FIRST), newWatch())
    let writes = 0 // of the guard, then of the lock
    before(first, 'write', () => {
      if (++writes < 2) return
      fs.unlinkSync(path)
      fs.writeFileSync(path, '{"v":1,"owner":"a shell"}')
    })
    expect(protocol.confirm(first, path, idOf(FIRST), newWatch())).toBe('lost')
    expect(fs.readFileSync(path, 'utf8')).toContain('a shell')
  })
})

describe('what is done under guards', () => {
  const both = () => {
    const { path, context, before, skip } = machine()
    const first = context(FIRST)
    const inner = `${path}.inner`
    for (const each of [path, inner]) protocol.acquire(first, each, request(FIRST), newWatch())
    const acts: string[] = []
    const commit = () => protocol.commit(first, [path, inner].map((each) => ({ path: each, id: idOf(FIRST) })), newWatch(), () => void acts.push('done'))
    return { path, inner, first, before, skip, acts, commit }
  }

  test('is done when all locks are still ours', () => {
    const { acts, commit } = both()
    expect(commit()).toBeUndefined()
    expect(acts).toEqual(['done'])
  })

  test('is not done when one is not, and that one is named', () => {
    const { inner, acts, commit } = both()
    fs.unlinkSync(inner)
    expect(commit()).toEqual({ lost: inner })
    expect(acts).toEqual([])
  })

  test('is not done when the first guard has grown old while the second was taken', () => {
    const { inner, first, before, skip, acts, commit } = both()
    before(first, 'create', (path) => path === inner + GUARD_SUFFIX && skip('both', 30_001))
    expect(commit()).toMatchObject({ done: false, verdict: 'guarded' })
    expect(acts).toEqual([])
  })
})
