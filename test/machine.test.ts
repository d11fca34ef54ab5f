/*
 * The machine refuses: no space, no permission, no descriptors, a failing disk. First at the seam, where every single call can
 * be made to fail; then for real, on small file systems and in starved processes.
 */
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { acquireLock, acquireLockSync, breakLock, inspectLock, releaseLock, renewLock, sweepLocks } from 'lockpact'
import { describe, expect, onTestFinished, test } from 'vitest'
import * as protocol from '../lib/core/protocol.js'
import { type Context, GUARD_SUFFIX, newWatch, type Request } from '../lib/core/protocol.js'
import { decode, encode, type Stamp } from '../lib/core/stamp.js'
import { type System, system } from '../lib/core/system.js'
import { fillBlocks, fillInodes, remount, smallDisk } from './disk.js'
import { has, isRoot, type Child, sleep, startNode, tempFolder, until } from './support.js'

// ---- at the seam ----

type Call = 'create' | 'open' | 'read' | 'write' | 'stat' | 'close' | 'unlink' | 'lstat' | 'clock'
const CODES = ['ENOSPC', 'EIO', 'EACCES', 'EROFS', 'EMFILE'] as const

/**
 * How a call fails: without having done anything; having done it all the same (a network's answer that was lost); or, a write,
 * halfway: with each code it comes to another place.
 */
type Way = 'not done' | 'done' | 'half done'

interface Fault {
  /** Which call, counted from 1, fails; `forEver`: all after it, too, until it heals. */
  nth: number
  forEver: boolean
  code: (typeof CODES)[number]
  way: Way
  errors: Error[]
  calls: number
  healed: boolean
}

/** Several processes of one machine: who is dead, what their clocks say, and what lies in one folder. */
class World {
  readonly folder = fs.mkdtempSync(join(tmpdir(), 'lockpact-'))
  readonly path = join(this.folder, 'queue.md.lock')
  readonly dead = new Set<number>()
  skippedMs = 0

  /** A process with this pid: the real files, and a fault. */
  process(pid: number, fault?: Fault): Context & { descriptors: Set<number> } {
    const descriptors = new Set<number>()
    let hasTime = false
    const faulty = <T>(call: Call, act: () => T, half?: () => void): T => {
      if (!fault || fault.healed) return act()
      fault.calls++
      if (fault.calls !== fault.nth && !(fault.forEver && fault.calls > fault.nth)) return act()
      // close(2) frees the descriptor also when it fails; open(2) that fails has opened nothing.
      if (call === 'close' || (fault.way === 'done' && call !== 'create' && call !== 'open')) act()
      else if (fault.way === 'half done') half?.()
      const error = Object.assign(new Error(`${fault.code}: made up, ${call}`), { code: fault.code, syscall: call })
      fault.errors.push(error)
      throw error
    }
    const opened = (fd: number) => (descriptors.add(fd), fd)
    const machine: System = {
      ...system,
      create: (path) => faulty('create', () => opened(system.create(path))),
      open: (path, forWriting) => faulty('open', () => opened(system.open(path, forWriting))),
      read: (fd) => faulty('read', () => system.read(fd)),
      write: (fd, text) => faulty('write', () => system.write(fd, text), () => system.write(fd, text.slice(0, (text.trimEnd().length * (1 + CODES.indexOf(fault!.code))) / 6))),
      stat: (fd) => faulty('stat', () => system.stat(fd)),
      close: (fd) => faulty('close', () => (descriptors.delete(fd), system.close(fd))),
      unlink: (path) => faulty('unlink', () => system.unlink(path)),
      lstat: (path) => faulty('lstat', () => system.lstat(path)),
      // It needs a descriptor until it has answered once; later it goes by that answer.
      clock: () => {
        const { boot, wall } = hasTime ? system.clock() : faulty('clock', () => system.clock())
        hasTime = true
        return { boot: boot + this.skippedMs, wall: wall + this.skippedMs }
      },
      // These two never throw: what they cannot see they leave out.
      machine: () => ({ boot: 'this boot', pidns: '1', timens: '1', host: 'here', self: { pid, start: '1' }, granularityMs: 50 }),
      process: (asked) => ({ exists: !this.dead.has(asked), start: '1' }),
    }
    return { system: machine, disowned: new Map(), descriptors }
  }

  names = () => fs.readdirSync(this.folder).sort()
  text = (path = this.path) => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined)
  holder(path = this.path): string | undefined {
    const decoded = decode(this.text(path) ?? '')
    return decoded.kind === 'stamp' ? decoded.stamp.id : undefined
  }

  remove = () => fs.rmSync(this.folder, { recursive: true, force: true })
}

const [FIRST, DEAD, NEWCOMER, OTHER] = [1001, 1002, 1003, 1004]
const request = (pid: number, fields: Partial<Request['fields']> = {}): Request => ({ id: `000000000000${pid}`, adopt: undefined, fields: { owner: String(pid), ttlMs: 60_000, renews: true, ...fields } })
const idOf = (pid: number) => request(pid).id

function held(world: World, context: Context, pid: number, fields: Partial<Request['fields']> = {}, path = world.path): void {
  expect(protocol.acquire(context, path, request(pid, fields), newWatch()).done).toBe(true)
}

/** Leaves a lock, and as many guards over it, of a dead process. */
function leftOver(world: World, guards: number): void {
  world.dead.add(DEAD)
  const stamp: Stamp = { v: 1, id: idOf(DEAD), owner: 'dead', processes: [{ pid: DEAD, start: '1' }], boot: 'this boot', pidns: '1', timens: '1', host: 'here' }
  for (let level = 0; level <= guards; level++) fs.writeFileSync(world.path + GUARD_SUFFIX.repeat(level), encode(stamp))
}

/** Tries for ten seconds of simulated polling, while `beside` runs. */
function eventually(world: World, attempt: () => boolean, beside = () => {}): boolean {
  for (let looks = 0; looks < 40; looks++) {
    if (attempt()) return true
    beside()
    world.skippedMs += 250
  }
  return false
}

/** What an operation is expected to leave behind, beyond what holds for all. */
interface Operation {
  prepare(world: World, first: Context): void
  run(world: World, first: Context): { done: boolean } | 'lost' | 'changed'
  /** Ends what may be held: gives it back, as a caller does whose call threw, again and again. */
  after(world: World, first: Context, outcome: 'done' | 'refused' | 'threw', fault: Fault, before: string | undefined): void
}

const take: Pick<Operation, 'run' | 'after'> = {
  run: (world, first) => protocol.acquire(first, world.path, request(FIRST), newWatch()),
  after(world, first, outcome) {
    if (outcome === 'done') {
      expect(world.holder()).toBe(idOf(FIRST))
      refused(world)
      giveBack(world, first)
    }
  },
}

function refused(world: World, path = world.path): void {
  expect(protocol.acquire(world.process(NEWCOMER), path, request(NEWCOMER), newWatch())).toMatchObject({ done: false, verdict: 'alive' })
}

function giveBack(world: World, context: Context, id = idOf(FIRST), path = world.path): void {
  const watch = newWatch()
  expect(eventually(world, () => protocol.release(context, path, id, watch).done, () => protocol.cleanUp(context, watch)), `it is given back; there is ${world.names().join()}`).toBe(true)
}

/** The holder still holds, renews, and nobody else gets in. */
function stillHeld(world: World, first: Context): void {
  expect(world.holder()).toBe(idOf(FIRST))
  refused(world)
  expect(protocol.renew(first, world.path, idOf(FIRST), newWatch())).toMatchObject({ done: true })
  confirmed(world, first)
  giveBack(world, first)
}

/** A guard of ours may have been left behind: it is the chores' affair, or five seconds' when it has no stamp. */
function confirmed(world: World, first: Context, id = idOf(FIRST), path = world.path): void {
  const watch = newWatch()
  const isDone = () => {
    const result = protocol.confirm(first, path, id, watch)
    expect(result).not.toBe('lost')
    return result !== 'lost' && result.done
  }
  expect(eventually(world, isDone, () => protocol.cleanUp(first, watch)), `it is confirmed; there is ${world.names().join()}`).toBe(true)
}

/** It was only looked at, by its holder. */
function unchanged(world: World, first: Context, _: unknown, __: unknown, before: string | undefined): void {
  expect(world.text()).toBe(before)
  stillHeld(world, first)
}

/** Somebody else holds it; it is only looked at, and seen, unless that threw. */
const lookedAt: Pick<Operation, 'prepare' | 'after'> = {
  prepare: (world) => held(world, world.process(OTHER), OTHER),
  after(world, first, outcome, _, before) {
    expect(outcome).not.toBe('refused')
    expect(world.text()).toBe(before)
    giveBack(world, first, idOf(OTHER))
  },
}

const bind = (stamp: Stamp): Stamp => ({ ...stamp, processes: [...stamp.processes!, { pid: NEWCOMER, start: '1' }] })
// By another context of the process: so the one that is tested reads its clock for the first time.
const hold = (world: World) => held(world, world.process(FIRST), FIRST)
const another = (world: World) => join(world.folder, 'another.md.lock')

const operations: Record<string, Operation> = {
  'taking a free lock': { prepare: () => {}, ...take },
  "taking a dead holder's lock": { prepare: (world) => leftOver(world, 0), ...take },
  "taking a dead holder's lock, its guard left behind": { prepare: (world) => leftOver(world, 1), ...take },
  'adopting': {
    prepare: (world) => held(world, world.process(OTHER), OTHER, { processes: [], renews: false }),
    run: (world, first) => protocol.acquire(first, world.path, { ...request(FIRST), adopt: idOf(OTHER) }, newWatch()),
    after(world, first, outcome, fault, before) {
      take.after(world, first, outcome, fault, before)
      if (outcome === 'done') return
      // Either it has gone or nothing has happened to it. What was created in its place is removed, or is to be.
      if (!fault.forEver) expect([before, undefined]).toContain(world.text())
      else if (world.holder() === idOf(FIRST)) expect([...first.disowned.keys()]).toContain(idOf(FIRST))
      giveBack(world, first, idOf(OTHER))
    },
  },
  'asking whether one would be refused': {
    ...lookedAt,
    run: (world, first) => ({ done: protocol.wouldRefuse(first, world.path, request(FIRST), newWatch()) !== undefined }),
  },
  'inspecting': {
    ...lookedAt,
    run: (world, first) => ({ done: ['alive', 'foreign'].includes(protocol.inspect(first, world.path).judgement.verdict) }),
  },
  'looking': {
    prepare: hold,
    run(world, first) {
      const stamp = protocol.look(first, world.path, idOf(FIRST))
      return stamp === 'lost' ? stamp : { done: stamp !== undefined }
    },
    after: unchanged,
  },
  'releasing': {
    prepare: hold,
    run: (world, first) => protocol.release(first, world.path, idOf(FIRST), newWatch()),
    after(world, first, outcome, _, before) {
      if (outcome === 'done') expect(world.text(), 'released, or not ours').toBeUndefined()
      // Either it has gone or nothing has happened to it.
      else expect([before, undefined]).toContain(world.text())
      giveBack(world, first)
      expect(world.text()).toBeUndefined()
    },
  },
  'renewing': {
    prepare(world) {
      hold(world)
      world.skippedMs += 20_000
    },
    run: (world, first) => protocol.renew(first, world.path, idOf(FIRST), newWatch()),
    after: stillHeld,
  },
  'renewing late': {
    prepare(world) {
      hold(world)
      world.skippedMs += 61_000
    },
    run: (world, first) => protocol.renew(first, world.path, idOf(FIRST), newWatch()),
    after(world, first, outcome) {
      // Over is over until it was confirmed; but nobody has taken it.
      if (outcome !== 'done') confirmed(world, first)
      stillHeld(world, first)
    },
  },
  'renewing by token': {
    prepare(world) {
      held(world, world.process(FIRST), FIRST, { renews: false })
      world.skippedMs += 20_000
    },
    run: (world, first) => protocol.renewShared(first, world.path, idOf(FIRST), newWatch()),
    after(world, first) {
      expect(world.holder()).toBe(idOf(FIRST))
      confirmed(world, first)
      stillHeld(world, first)
    },
  },
  'renewing by token what its process renews': {
    prepare: hold,
    run: (world, first) => protocol.renewShared(first, world.path, idOf(FIRST), newWatch()),
    after: unchanged,
  },
  'binding': {
    prepare: hold,
    run: (world, first) => protocol.confirm(first, world.path, idOf(FIRST), newWatch(), bind),
    after: stillHeld,
  },
  'committing under two locks': {
    prepare(world) {
      hold(world)
      held(world, world.process(FIRST), OTHER, {}, another(world))
    },
    run(world, first) {
      const acts: string[] = []
      let isTold = false
      try {
        const result = protocol.commit(first, [{ path: world.path, id: idOf(FIRST) }, { path: another(world), id: idOf(OTHER) }], newWatch(), () => void acts.push('done'))
        isTold = !result
        return !result ? { done: true } : 'lost' in result ? 'lost' : result
      } finally {
        expect(acts, 'what is done, and what is told').toHaveLength(isTold ? 1 : 0)
      }
    },
    after(world, first) {
      expect(world.holder(another(world))).toBe(idOf(OTHER))
      refused(world, another(world))
      confirmed(world, first, idOf(OTHER), another(world))
      giveBack(world, first, idOf(OTHER), another(world))
      stillHeld(world, first)
    },
  },
  'cleaning up': {
    prepare(world, first) {
      hold(world)
      protocol.disown(first, idOf(FIRST), world.path, 0)
      fs.writeFileSync(world.path + GUARD_SUFFIX, encode({ v: 1, id: idOf(OTHER), processes: [{ pid: FIRST, start: '1' }], boot: 'this boot', pidns: '1' }))
      protocol.disown(first, idOf(OTHER), world.path + GUARD_SUFFIX, 1, world.process(FIRST).system.clock())
    },
    run(_, first) {
      protocol.cleanUp(first, newWatch())
      return { done: first.disowned.size === 0 }
    },
    after(world, _, outcome) {
      if (outcome === 'done') expect(world.names()).toEqual([])
    },
  },
  'breaking a lock open': {
    prepare: (world) => held(world, world.process(OTHER), OTHER),
    run: (world, first) => protocol.breakOpen(first, world.path, protocol.inspect(first, world.path).reading, newWatch()),
    after(world, first, outcome, _, before) {
      expect(outcome === 'done' ? [undefined] : [before, undefined]).toContain(world.text())
      giveBack(world, first, idOf(OTHER))
    },
  },
  'sweeping a dead lock': {
    prepare: (world) => leftOver(world, 0),
    run: (world, first) => protocol.sweep(first, world.path, 0, newWatch()),
    after(world, _, outcome) {
      if (outcome === 'done') expect(world.text()).toBeUndefined()
    },
  },
  'sweeping a dead guard': {
    prepare: (world) => leftOver(world, 1),
    run: (world, first) => protocol.sweep(first, world.path + GUARD_SUFFIX, 1, newWatch()),
    after(world, _, outcome) {
      expect(world.holder()).toBe(idOf(DEAD))
      if (outcome === 'done') expect(world.text(world.path + GUARD_SUFFIX)).toBeUndefined()
    },
  },
  'sweeping past a living holder': {
    prepare: (world) => held(world, world.process(OTHER), OTHER),
    run: (world, first) => protocol.sweep(first, world.path, 0, newWatch()),
    after(world, _, __, ___, before) {
      expect(world.text()).toBe(before)
      protocol.release(world.process(OTHER), world.path, idOf(OTHER), newWatch())
    },
  },
}

/** Runs an operation with one fault. False when the fault was not reached. */
function survives(operation: Operation, fault: Fault): boolean {
  const world = new World()
  try {
    fault.healed = true
    const first = world.process(FIRST, fault)
    operation.prepare(world, first)
    const before = world.text()
    fault.healed = false

    let outcome: 'done' | 'refused' | 'threw'
    let lost = false
    try {
      const result = operation.run(world, first)
      outcome = typeof result === 'object' && result.done ? 'done' : 'refused'
      // What we cannot look at is not lost for that.
      lost = result === 'lost'
    } catch (error) {
      expect(fault.errors, 'the error of the machine, not another').toContain(error)
      outcome = 'threw'
    }
    expect(lost, 'declared lost').toBe(false)
    if (fault.errors.length === 0) expect(outcome === 'done' || operation === operations['sweeping past a living holder'], 'without a fault it succeeds').toBe(true)
    expect([...first.descriptors], 'descriptors left open').toEqual([])

    fault.healed = true
    operation.after(world, first, outcome, fault, before)

    // A newcomer gets in, while the first process lives on and does its chores …
    const newcomer = world.process(NEWCOMER)
    const watch = newWatch()
    const chores = () => protocol.cleanUp(first, watch)
    const seen = newWatch()
    expect(eventually(world, () => protocol.acquire(newcomer, world.path, request(NEWCOMER), seen).done, chores), `a newcomer gets in; there is ${world.names().join()}`).toBe(true)
    expect(world.holder()).toBe(idOf(NEWCOMER))
    // … can leave again, and what is left (a lock and its guards, at most) can be swept.
    expect(eventually(world, () => protocol.release(newcomer, world.path, idOf(NEWCOMER), seen).done, chores), `a newcomer gets out; there is ${world.names().join()}`).toBe(true)
    chores()
    for (const name of world.names().reverse()) {
      const level = name.split(GUARD_SUFFIX).length - 1
      const swept = newWatch()
      expect(eventually(world, () => {
        const result = protocol.sweep(newcomer, join(world.folder, name), level, swept)
        return result !== 'changed' && result.done
      }), `${name} is swept`).toBe(true)
    }
    expect(world.names()).toEqual([])
    expect(first.disowned.size, 'files that the first process still wants to remove').toBe(0)
    return fault.errors.length > 0
  } finally {
    world.remove()
  }
}

const ways: [string, boolean, Way][] = [
  ['one call fails', false, 'not done'],
  ['one call fails, though it was done', false, 'done'],
  ['one call fails halfway', false, 'half done'],
  ['all calls fail from one on', true, 'not done'],
  ['all calls fail from one on, though they are done', true, 'done'],
]
// A stamp that is written over one of the same length, on one block, is written or not. Only a bind moves what stands behind it.
const cases = Object.entries(operations).flatMap(([name, operation]) => ways.filter(([, , way]) => way !== 'half done' || name !== 'binding').map((way) => [name, ...way, operation] as const))

test.each(cases)('%s, nothing is half-taken and nobody is locked out when %s', (_, __, forEver, way, operation) => {
  const problems: string[] = []
  for (const code of CODES) {
    for (let nth = 1, reached = true; reached; nth++) {
      expect(nth, 'it ends').toBeLessThan(200)
      const fault: Fault = { nth, forEver, code, way, errors: [], calls: 0, healed: false }
      try {
        reached = survives(operation, fault)
      } catch (error) {
        problems.push(`call ${nth}, ${fault.errors[0]?.message}: ${(error as Error).message.split('\n')[0]}`)
      }
    }
  }
  expect(problems).toEqual([])
})

describe('without space for the stamp of a guard', () => {
  const full = (world: World) => {
    const context = world.process(FIRST)
    const stamped = context.system.write
    let isFull = false
    context.system.write = (fd, text) => {
      if (isFull) throw Object.assign(new Error('ENOSPC: made up'), { code: 'ENOSPC', syscall: 'write' })
      stamped(fd, text)
    }
    held(world, context, FIRST)
    isFull = true
    onTestFinished(world.remove)
    return context
  }

  test('a lock is released under an unstamped guard', () => {
    const world = new World()
    const context = full(world)
    let guarded: string | undefined
    const read = context.system.read
    context.system.read = (fd) => {
      guarded = world.text(world.path + GUARD_SUFFIX)
      return read(fd)
    }
    expect(protocol.release(context, world.path, idOf(FIRST), newWatch())).toEqual({ done: true, released: true })
    expect(guarded).toBe('')
    expect(world.names()).toEqual([])
  })

  test('others respect the unstamped guard while it is young', () => {
    const world = new World()
    const context = full(world)
    const read = context.system.read
    let others: unknown[] = []
    context.system.read = (fd) => {
      // As if this process were dead: the guard alone is in the way.
      world.dead.add(FIRST)
      others = [protocol.acquire(world.process(NEWCOMER), world.path, request(NEWCOMER), newWatch()), protocol.sweep(world.process(NEWCOMER), world.path + GUARD_SUFFIX, 1, newWatch())]
      return read(fd)
    }
    protocol.release(context, world.path, idOf(FIRST), newWatch())
    expect(others).toMatchObject([{ done: false, verdict: 'guarded' }, { done: false, verdict: 'unstamped' }])
  })

  test('nothing is unlinked any more when the unstamped guard is older than two seconds', () => {
    const world = new World()
    const context = full(world)
    const before = world.text()
    const read = context.system.read
    context.system.read = (fd) => {
      const text = read(fd)
      world.skippedMs += 2001
      return text
    }
    expect(protocol.release(context, world.path, idOf(FIRST), newWatch())).toMatchObject({ done: false, verdict: 'guarded' })
    expect(world.text()).toBe(before)
  })

  test('a lock is not taken: only a guard may do without a stamp', () => {
    const world = new World()
    const context = full(world)
    const other = join(world.folder, 'other.md.lock')
    expect(() => protocol.acquire(context, other, request(FIRST), newWatch())).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
    expect(world.names()).toEqual(['queue.md.lock'])
  })
})

describe('what could not be removed', () => {
  test('does not keep what can be removed from being removed', () => {
    const world = new World()
    onTestFinished(world.remove)
    const context = world.process(FIRST)
    const other = join(world.folder, 'other.md.lock')
    held(world, context, FIRST)
    protocol.acquire(context, other, request(NEWCOMER), newWatch())
    const unlink = context.system.unlink
    context.system.unlink = (path) => {
      if (path.startsWith(world.path)) throw Object.assign(new Error('EROFS: made up'), { code: 'EROFS', syscall: 'unlink' })
      unlink(path)
    }
    protocol.disown(context, idOf(FIRST), world.path, 0)
    protocol.disown(context, idOf(NEWCOMER), other, 0)
    for (let rounds = 0; rounds < 3; rounds++) {
      try {
        protocol.cleanUp(context, newWatch())
      } catch {
        // The first one cannot be removed.
      }
    }
    expect(fs.existsSync(other)).toBe(false)
    expect(fs.existsSync(world.path)).toBe(true)
  })

  test('does not pile guards upon guards, however long it lasts', () => {
    const world = new World()
    onTestFinished(world.remove)
    const context = world.process(FIRST)
    held(world, context, FIRST)
    const { unlink } = context.system
    context.system.unlink = () => {
      throw Object.assign(new Error('EPERM: made up'), { code: 'EPERM', syscall: 'unlink' })
    }
    expect(() => protocol.release(context, world.path, idOf(FIRST), newWatch())).toThrow('EPERM')
    protocol.disown(context, idOf(FIRST), world.path, 0)
    const chores = () => {
      try {
        protocol.cleanUp(context, newWatch())
      } catch {
        // The machine refuses for now.
      }
    }
    for (let rounds = 0; rounds < 100; rounds++, world.skippedMs += 100) chores()
    context.system.unlink = unlink
    for (let rounds = 0; rounds < 100 && context.disowned.size > 0; rounds++, world.skippedMs += 100) chores()
    expect(context.disowned.size).toBe(0)
    expect(world.names()).toEqual([])
  })

  test('keeps nobody out when its process dies over it', () => {
    const world = new World()
    onTestFinished(world.remove)
    const context = world.process(FIRST)
    held(world, context, FIRST)
    context.system.unlink = () => {
      throw Object.assign(new Error('EPERM: made up'), { code: 'EPERM', syscall: 'unlink' })
    }
    expect(() => protocol.release(context, world.path, idOf(FIRST), newWatch())).toThrow('EPERM')
    protocol.disown(context, idOf(FIRST), world.path, 0)
    for (let rounds = 0; rounds < 100; rounds++, world.skippedMs += 100) {
      try {
        protocol.cleanUp(context, newWatch())
      } catch {
        // The machine refuses for now.
      }
    }
    world.dead.add(FIRST)
    const left = world.names()
    const newcomer = world.process(NEWCOMER)
    expect(protocol.acquire(newcomer, world.path, request(NEWCOMER), newWatch()), `there is ${left.join()}`).toMatchObject({ done: true })
  })

  test('is done with when its folder is gone', () => {
    const world = new World()
    const context = world.process(FIRST)
    held(world, context, FIRST)
    protocol.disown(context, idOf(FIRST), world.path, 0)
    world.remove()
    protocol.cleanUp(context, newWatch())
    expect(context.disowned.size).toBe(0)
  })
})

// ---- a real disk ----

const locksIn = (folder: string) => fs.readdirSync(folder).filter((name) => name.includes('.lock'))
const noSpace = { name: 'LockError', code: 'ENOSPC', message: expect.stringMatching(/the disk is full.*ENOSPC/), cause: expect.objectContaining({ code: 'ENOSPC' }) }

test('on a full disk no lock is taken and nothing is left; with space it is', async (context) => {
  const disk = smallDisk(context)
  const file = join(disk, 'queue.md')
  const filler = fillBlocks(disk)
  await expect(acquireLock(file)).rejects.toMatchObject({ ...noSpace, file })
  await expect(acquireLock(file, { wait: '5s' })).rejects.toMatchObject(noSpace)
  expect(() => acquireLockSync(file)).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
  expect(locksIn(disk)).toEqual([])
  expect(inspectLock(file).state).toBe('free')
  fs.unlinkSync(filler)
  await (await acquireLock(file)).release()
})

test('a lock that is held is renewed and released on a full disk', async (context) => {
  const disk = smallDisk(context)
  const file = join(disk, 'queue.md')
  const lock = await acquireLock(file)
  const detached = await acquireLock(join(disk, 'detached.md'), { detached: true })
  fillBlocks(disk)
  await lock.renew()
  expect((await renewLock(detached.file, detached.token)).id).toBe(detached.id)
  expect(await lock.release()).toBe(true)
  fillBlocks(disk)
  await releaseLock(detached.file, detached.token)
  expect(locksIn(disk)).toEqual([])
})

test('a dead lock on a full disk is removed, and then taken, or the disk is said to be full', async (context) => {
  const disk = smallDisk(context)
  const child = startNode(`await acquireLock('queue.md', { owner: 'killed' }); say('held'); setInterval(() => {}, 1000)`, { cwd: disk })
  await child.line()
  child.process.kill('SIGKILL')
  await child.ended
  const filler = fillBlocks(disk)
  const result = await acquireLock(join(disk, 'queue.md')).catch((error: unknown) => error)
  if (result instanceof Error) {
    expect(result).toMatchObject(noSpace)
    expect(locksIn(disk)).toEqual([])
  } else {
    expect(result).toMatchObject({ held: true, recovered: { owner: 'killed' } })
    expect(await (result as Awaited<ReturnType<typeof acquireLock>>).release()).toBe(true)
  }
  fs.unlinkSync(filler)
  await (await acquireLock(join(disk, 'queue.md'))).release()
})

test('without inodes no lock is taken; one that is held cannot be released, says so, and is removed later', async (context) => {
  const disk = smallDisk(context, ['-N', '32'])
  const file = join(disk, 'queue.md')
  const lock = await acquireLock(file)
  const filler = fillInodes(disk)
  await expect(acquireLock(join(disk, 'other.md'))).rejects.toMatchObject(noSpace)
  await lock.renew()
  await expect(lock.release()).rejects.toMatchObject({ ...noSpace, message: expect.stringMatching(/cannot release .*queue\.md\.lock: the disk is full/) })
  expect(lock.held).toBe(false)
  expect(locksIn(disk)).toEqual(['queue.md.lock'])
  expect(await lock.release()).toBe(false)
  fs.unlinkSync(filler)
  await until(() => locksIn(disk).length === 0)
  await (await acquireLock(file)).release()
})

test('on a disk that becomes read-only, release says so and is done later; nothing new is taken', async (context) => {
  const disk = smallDisk(context)
  const file = join(disk, 'queue.md')
  const lock = await acquireLock(file)
  const sync = acquireLockSync(join(disk, 'sync.md'))
  remount(disk, 'ro')
  const readOnly = { name: 'LockError', code: 'EROFS', message: expect.stringMatching(/read-only.*EROFS/), cause: expect.objectContaining({ code: 'EROFS' }) }
  await expect(acquireLock(join(disk, 'other.md'))).rejects.toMatchObject(readOnly)
  await expect(lock.renew()).rejects.toMatchObject(readOnly)
  expect(lock.held).toBe(true) // its lease runs on
  await expect(lock.release()).rejects.toMatchObject(readOnly)
  expect(() => sync.release()).toThrow(expect.objectContaining({ code: 'EROFS' }))
  expect([lock.held, sync.held]).toEqual([false, false])
  expect(inspectLock(file)).toMatchObject({ stamp: { id: lock.id } })
  // The chores meet it, too, and go on.
  await sleep(300)
  remount(disk, 'rw')
  await until(() => locksIn(disk).length === 0)
  await (await acquireLock(file)).release()
})

test('a lock that cannot be renewed any more is lost when nobody could confirm it for another TTL', async (context) => {
  const disk = smallDisk(context)
  const lock = await acquireLock(join(disk, 'queue.md'), { ttl: '900ms' })
  remount(disk, 'ro')
  await until(() => lock.signal.aborted, 15_000)
  expect(lock.held).toBe(false)
  expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'ECOMPROMISED', message: expect.stringContaining('could not be confirmed') }))
  expect(await lock.release()).toBe(false)
  remount(disk, 'rw')
  await until(() => locksIn(disk).length === 0)
})

test('a disk that is read-only for a moment costs nobody the lock', async (context) => {
  const disk = smallDisk(context)
  const lock = await acquireLock(join(disk, 'queue.md'), { ttl: '6s' })
  const { renewedAt } = lock.stamp
  remount(disk, 'ro')
  await sleep(2600) // a renewal was due at 2 s
  expect(lock.stamp.renewedAt).toBe(renewedAt)
  remount(disk, 'rw')
  await until(() => lock.stamp.renewedAt !== renewedAt)
  expect(lock.held).toBe(true)
  expect(await lock.release()).toBe(true)
})

test('where nothing may be unlinked, what is ours goes as soon as it may, the guards too', async (context) => {
  const disk = smallDisk(context)
  context.skip(!has('chattr'), 'needs chattr')
  const child = startNode(`
    const lock = await acquireLock('queue.md')
    const detached = await acquireLock('detached.md', { detached: true })
    const { once } = await import('node:events')
    const codeOf = (promise) => promise.then(String, (error) => isLockError(error) ? error.code : String(error))
    say('held'); await once(process.stdin, 'data')
    say(await codeOf(releaseLock('detached.md', detached.token)))
    await new Promise((resolve) => setTimeout(resolve, 1000))
    say('tried'); await once(process.stdin, 'data')
    await new Promise((resolve) => setTimeout(resolve, 3000))
    say('rested'); await once(process.stdin, 'data')
    say(await codeOf(lock.release()))
    await new Promise((resolve) => setTimeout(resolve, 1000))
    say('tried'); await once(process.stdin, 'data')
    setInterval(() => {}, 1000)`, { cwd: disk })
  const go = () => child.process.stdin!.write('\n')
  const appendOnly = (on: boolean) => execFileSync('chattr', [on ? '+a' : '-a', disk])
  onTestFinished(() => void appendOnly(false))
  expect(await child.line()).toBe('held')
  // By a token: the caller tries again; the guard is its process's own affair.
  appendOnly(true)
  go()
  expect([await child.line(), await child.line()]).toEqual(['EPERM', 'tried'])
  appendOnly(false)
  go()
  expect(await child.line()).toBe('rested')
  expect.soft(locksIn(disk)).toEqual(['detached.md.lock', 'queue.md.lock'])
  // By the lock itself: lock and guard go.
  appendOnly(true)
  go()
  expect([await child.line(), await child.line()]).toEqual(['EPERM', 'tried'])
  appendOnly(false)
  go()
  await until(() => !locksIn(disk).some((name) => name.startsWith('queue.md')))
  child.process.kill('SIGKILL')
  await child.ended
})

// ---- permissions ----

/** Goes on as somebody who may not everything. */
const UNPRIVILEGED = `if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534) }
const outcome = (promise) => promise.then(() => 'granted', (error) => JSON.stringify(isLockError(error) ? { code: error.code, message: error.message, cause: error.cause?.code } : { text: String(error) }))
`

async function json(child: Child): Promise<Record<string, string>> {
  const line = await child.line()
  return line.startsWith('{') ? (JSON.parse(line) as Record<string, string>) : { text: line }
}

test('in a folder that one may not write, the error says so, and the process can lock elsewhere', async () => {
  const folder = tempFolder()
  fs.mkdirSync(join(folder, 'theirs'))
  fs.mkdirSync(join(folder, 'ours'))
  fs.chmodSync(folder, 0o755)
  fs.chmodSync(join(folder, 'theirs'), isRoot ? 0o755 : 0o555)
  fs.chmodSync(join(folder, 'ours'), 0o777)
  const child = startNode(`${UNPRIVILEGED}
    say(await outcome(acquireLock('theirs/queue.md')))
    say(await outcome(acquireLock('theirs/not/yet/queue.md')))
    say(await outcome(releaseLock('theirs/queue.md', 'a token')))
    say(inspectLock('theirs/queue.md').state)
    const lock = await acquireLock('theirs/queue.md', { lockFile: 'ours/queue.md.lock' })
    say(String(await lock.release()))`, { cwd: folder })
  for (let n = 0; n < 3; n++) expect(await json(child)).toMatchObject({ code: 'EACCES', cause: 'EACCES', message: expect.stringMatching(/theirs.*not permitted.*writable/) })
  expect([await child.line(), await child.line()]).toEqual(['free', 'true'])
  expect((await child.ended).code).toBe(0)
  expect(fs.readdirSync(folder, { recursive: true }).sort()).toEqual(['ours', 'theirs'])
})

test('a folder that becomes unwritable while a lock is held: release says so, and is done later', async (context) => {
  context.skip(!isRoot, 'needs root to take a folder away from somebody')
  const folder = tempFolder()
  fs.chmodSync(folder, 0o777)
  const child = startNode(`${UNPRIVILEGED}
    const { once } = await import('node:events')
    const lock = await acquireLock('queue.md')
    say('held'); await once(process.stdin, 'data')
    say(await outcome(lock.release()))
    setInterval(() => {}, 1000)`, { cwd: folder })
  expect(await child.line()).toBe('held')
  fs.chmodSync(folder, 0o755)
  child.process.stdin!.write('\n')
  expect(await json(child)).toMatchObject({ code: 'EACCES', message: expect.stringMatching(/cannot release .*not permitted/) })
  await expect(acquireLock(join(folder, 'queue.md'))).rejects.toMatchObject({ code: 'ELOCKED' })
  fs.chmodSync(folder, 0o777)
  await until(() => locksIn(folder).length === 0)
})

test('a sweep goes on past what it may not remove, and says what it kept', async (context) => {
  context.skip(!isRoot, 'needs root to make a folder of somebody else')
  const folder = tempFolder()
  const { boot, pidns, timens, host } = system.machine()
  const dead = encode({ v: 1, id: '00000000deadbeef', processes: [{ pid: process.pid, start: '1' }], boot, pidns, timens, host })
  for (const name of ['a-theirs', 'b-ours']) {
    fs.mkdirSync(join(folder, name))
    fs.writeFileSync(join(folder, name, 'queue.md.lock'), dead)
  }
  for (const name of ['.', 'b-ours']) fs.chmodSync(join(folder, name), 0o777)
  const child = startNode(`${UNPRIVILEGED}
    try { say(JSON.stringify((await sweepLocks('.')).map(({ action }) => action))) } catch (error) { say(error.message) }`, { cwd: folder })
  expect(await child.line()).toBe('["kept","removed"]')
  expect(fs.existsSync(join(folder, 'a-theirs/queue.md.lock'))).toBe(true)
})

// ---- descriptors ----

const STARVED = ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh']
const DESCRIPTORS = `
const fs = await import('node:fs')
const taken = []
const starve = (spare = 0) => { try { for (;;) taken.push(fs.openSync('/dev/null')) } catch (error) { if (error.code !== 'EMFILE') throw error } feed(spare) }
const feed = (count = taken.length) => { for (; count > 0; count--) fs.closeSync(taken.pop()) }
const outcome = async (call) => { try { return String(await call()) } catch (error) { return isLockError(error) ? error.code + (error.message.includes('this process has too many open files') ? ', said so' : ': ' + error.message) + ', because of ' + error.cause?.code : String(error) } }
`
const tooMany = 'EMFILE, said so, because of EMFILE'

test('without descriptors nothing is taken or released, the error says so, and it all works again with some', async () => {
  const folder = tempFolder()
  const child = startNode(`${DESCRIPTORS}
    const held = await acquireLock('held.md')
    starve()
    say(await outcome(() => acquireLock('queue.md')))
    say(await outcome(() => acquireLockSync('queue.md')))
    say(await outcome(() => held.renew()))
    say(String(held.held))
    say(await outcome(() => held.release()))
    say(fs.existsSync('queue.md.lock') + ' ' + fs.existsSync('held.md.lock'))
    feed()
    const lock = await acquireLock('queue.md')
    say(String(await lock.release()))
    for (let looks = 0; looks < 100 && fs.existsSync('held.md.lock'); looks++) await new Promise((resolve) => setTimeout(resolve, 50))
    say(await outcome(async () => (await acquireLock('held.md')).release()))`, { cwd: folder, wrap: STARVED })
  expect([await child.line(), await child.line(), await child.line(), await child.line()]).toEqual([tooMany, tooMany, tooMany, 'true'])
  expect([await child.line(), await child.line()]).toEqual([tooMany, 'false true'])
  expect([await child.line(), await child.line()]).toEqual(['true', 'true'])
  expect(await child.ended).toEqual({ code: 0, signal: null })
  expect(fs.readdirSync(folder)).toEqual([])
})

test('with one descriptor to spare a lock is taken, renewed and released; waiting needs no more', async () => {
  const folder = tempFolder()
  const child = startNode(`${DESCRIPTORS}
    const other = await acquireLock('waited.md', { detached: true, ttl: '1s' })
    starve(1)
    const async = await outcome(async () => { const lock = await acquireLock('queue.md'); await lock.renew(); return lock.release() })
    const sync = await outcome(async () => { const lock = acquireLockSync('queue.md'); lock.renew(); return lock.release() })
    const waited = await outcome(async () => (await acquireLock('waited.md', { wait: '10s' })).release())
    feed()
    for (const line of [async, sync, waited]) say(line)`, { cwd: folder, wrap: STARVED })
  const lines = [await child.line(), await child.line(), await child.line()]
  expect.soft(lines.slice(0, 2)).toEqual(['true', 'true'])
  // The watcher of the folder may have the last one; then the error says what is missing.
  expect(['true', tooMany]).toContain(lines[2])
  await child.ended
  expect(locksIn(folder)).toEqual(lines[2] === 'true' ? [] : ['waited.md.lock'])
})

test('a lock that could not be renewed for want of descriptors is renewed when there are some', async () => {
  const child = startNode(`${DESCRIPTORS}
    const lock = await acquireLock('queue.md', { ttl: '6s' })
    const { renewedAt } = lock.stamp
    starve()
    await new Promise((resolve) => setTimeout(resolve, 2600))
    say(String(lock.stamp.renewedAt === renewedAt && lock.held))
    feed()
    for (let looks = 0; looks < 100 && lock.stamp.renewedAt === renewedAt; looks++) await new Promise((resolve) => setTimeout(resolve, 50))
    say(String(lock.stamp.renewedAt !== renewedAt && lock.held && !lock.signal.aborted))
    say(String(await lock.release()))`, { cwd: tempFolder(), wrap: STARVED })
  expect([await child.line(), await child.line(), await child.line()]).toEqual(['true', 'true', 'true'])
})

test.runIf(process.platform === 'linux')('who had no descriptors at first knows itself, and the time, when it has some', async () => {
  const child = startNode(`${DESCRIPTORS}
    // In the later half of a second: a clock that counts whole seconds would be seen.
    const uptime = () => Number.parseFloat(fs.readFileSync('/proc/uptime', 'latin1')) * 1000
    for (let now = uptime() % 1000; now < 600 || now > 800; now = uptime() % 1000);
    starve()
    say(await outcome(() => acquireLock('queue.md')))
    feed()
    const lock = await acquireLock('queue.md')
    say(String(lock.stamp.processes.map(({ pid }) => pid)))
    say(String(typeof lock.stamp.boot))
    const before = uptime()
    await lock.renew()
    say(JSON.stringify([before, lock.stamp.bootMs, uptime()]))
    process.kill(process.pid, 'SIGKILL')`, { cwd: tempFolder(), wrap: STARVED })
  expect(await child.line()).toBe(tooMany)
  expect.soft(await child.line()).toBe(String(child.pid))
  expect.soft(await child.line()).toBe('string')
  const [before, renewed, after] = JSON.parse(await child.line()) as [number, number, number]
  expect.soft(renewed).toBeGreaterThanOrEqual(before - 50)
  expect.soft(renewed).toBeLessThanOrEqual(after + 50)
})

// ---- paths ----

describe.each([
  ['a file in place of a folder', (folder: string) => (fs.writeFileSync(join(folder, 'file'), ''), join(folder, 'file', 'queue.md')), 'ENOTDIR', /a part of the path is not a folder/],
  ['a folder whose name is too long', (folder: string) => join(folder, 'x'.repeat(256), 'queue.md'), 'ENAMETOOLONG', /too long/],
  ['a path that is too long', (folder: string) => join(folder, 'x/'.repeat(2100), 'queue.md'), 'ENAMETOOLONG', /too long/],
  ['a loop of links in place of a folder', (folder: string) => (fs.symlinkSync('loop', join(folder, 'loop')), join(folder, 'loop', 'queue.md')), 'ELOOP', /loop/],
] as const)('%s', (_, make, code, words) => {
  test('is told by everybody, and nothing is created', async () => {
    const folder = tempFolder()
    const file = make(folder)
    const before = fs.readdirSync(folder)
    const calls = {
      acquireLock: async () => acquireLock(file),
      acquireLockSync: async () => acquireLockSync(file),
      inspectLock: async () => inspectLock(file),
      renewLock: async () => renewLock(file, 'token'),
      releaseLock: async () => releaseLock(file, 'token'),
      breakLock: async () => breakLock(file, { reason: 'a test' }),
      sweepLocks: async () => sweepLocks(join(file, '..')),
    }
    for (const [name, call] of Object.entries(calls)) {
      await expect.soft(call(), name).rejects.toMatchObject({ name: 'LockError', code, message: expect.stringMatching(words), cause: expect.objectContaining({ code }) })
    }
    expect(fs.readdirSync(folder)).toEqual(before)
  })
})
