/*
 * Slots: may this job go, or has somebody done it? First the pure decisions, in every order; then gates of real processes.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, vi } from 'vitest'
import { bindSlot, completeSlot, failSlot, freeSlot, gate, type GateOptions, type Go, initWorkspace, listSlots, readEvents, renewSlot, type Skip } from '../dist/work.js'
import { beginLease, extendLease, type Lease, overBy } from '../lib/work/lease.js'
import { ask, begin, finish, newSlot, type Outcome, type Rule, type Running, type Slot, slotOf } from '../lib/work/slot.js'
import { lacks, inPidNamespaceWithProc, type Remote, type RemoteOptions, test as base } from './remote.js'
import { projectFolder, sleep, until } from './support.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const iso = (ms: number) => new Date(ms).toISOString()
const NINE = Date.parse('2026-11-20T09:00:00.000Z')

// ---- the decisions: every order, for two jobs ----

/** What has happened so far, as a person would keep it: one line a run. */
interface Run {
  id: string
  job: string
  slot: string | null
  since: number
  over?: 'dead' | 'expired'
  ended?: Outcome['outcome']
  at?: number
}

interface History {
  now: number
  runs: Run[]
  record: Slot
}

const JOBS = ['hourly', 'presence'] as const
const STEPS = [...JOBS.flatMap((job) => [`${job} asks`, `${job} done`, `${job} failed`, `${job} free`]), 'it dies', 'it expires', 'half an hour']

const leaseOf = (id: string, by: string, now: number): Lease => ({ id, by, since: iso(now), until: iso(now + HOUR), ttlMs: HOUR })

/** The rules, read from the runs; nothing here knows how the record is kept. */
function expected({ runs, now }: History, rule: Rule): 'go' | 'running' | 'done' | 'cooldown' {
  const last = runs.at(-1)
  if (last && !last.ended && !last.over) return 'running'
  const shipped = runs.filter(({ ended }) => ended === 'done')
  const { every, offset = 0, slot, cooldown } = rule
  if (every !== undefined && shipped.some(({ since }) => Math.floor((since - offset) / every) === Math.floor((now - offset) / every))) return 'done'
  if (slot !== undefined && shipped.some((run) => run.slot === slot)) return 'done'
  if (cooldown !== undefined && shipped.some(({ at }) => now - at! < cooldown)) return 'cooldown'
  return 'go'
}

function failuresIn(runs: Run[]): number {
  const good = runs.findLastIndex(({ ended }) => ended === 'done' || ended === 'free')
  return runs.length - 1 - good
}

/** One step on both sides; undefined where it makes no sense. */
function step(before: History, what: string, rules: Record<string, Rule>): History | undefined {
  const now = before.now + 7 * MINUTE
  const runs = before.runs.map((run) => ({ ...run }))
  const after = { now, runs, record: before.record }
  const last = runs.at(-1)
  if (what === 'half an hour') return { ...after, now: now + 30 * MINUTE }
  if (what === 'it dies' || what === 'it expires') {
    if (!last || last.ended || last.over) return undefined
    last.over = what === 'it dies' ? 'dead' : 'expired'
    return after
  }
  const [job, verb] = what.split(' ') as [string, string]
  if (verb === 'asks') {
    const answer = ask(before.record, rules[job]!, now, ({ id }) => runs.find((run) => run.id === id)!.over)
    const verdict = expected({ ...before, now }, rules[job]!)
    if (!answer.go) {
      expect(answer.reason).toBe(verdict)
      // Whoever is refused learns by whom.
      if (verdict === 'running') expect(answer).toMatchObject({ by: last!.job, at: iso(last!.since) })
      else expect(runs.some(({ ended, job, at }) => ended === 'done' && job === answer.by && iso(at!) === answer.at)).toBe(true)
      return after
    }
    expect(verdict).toBe('go')
    const isLost = last !== undefined && !last.ended
    if (isLost) last.ended = 'lost'
    expect(answer.recovered).toEqual(isLost ? { by: last.job, since: iso(last.since), slot: last.slot, why: last.over } : null)
    expect(answer.failures).toBe(failuresIn(runs))
    const id = `${job}-${runs.length}`
    runs.push({ id, job, slot: answer.slot, since: now })
    return { ...after, record: begin(answer.record, { ...leaseOf(id, job, now), slot: answer.slot }) }
  }
  const own = runs.findLast((run) => run.job === job)
  if (!own) return undefined
  const outcome = verb as 'done' | 'failed' | 'free'
  const record = finish(before.record, own.id, outcome, null, now)
  // Late: it has ended, or somebody else has followed it.
  if (own.ended) {
    expect(record).toBeUndefined()
    return after
  }
  expect(record).toBeDefined()
  Object.assign(own, { ended: outcome, at: now })
  expect(record).toMatchObject({ running: null, failures: failuresIn(runs), outcomes: [{ outcome, id: own.id }, ...before.record.outcomes] })
  return { ...after, record: record! }
}

describe.each<[string, Rule, Rule, number]>([
  ['a cooldown beside no rule', { cooldown: 15 * MINUTE }, {}, 6],
  ['once an hour beside no rule', { every: HOUR }, {}, 6],
  ['once an hour, moved, beside a cooldown', { every: HOUR, offset: 30 * MINUTE }, { cooldown: 15 * MINUTE }, 5],
  ['two names', { slot: 'v1' }, { slot: 'v2' }, 5],
  ['a name beside once in half an hour', { slot: 'v1' }, { every: HOUR / 2 }, 5],
])('%s', (_, hourly, presence, length) => {
  base('in every order of asking, ending, dying and expiring, the answers are those that the runs themselves give', () => {
    const rules = { hourly, presence }
    let checked = 0
    const seen = { go: 0, running: 0, done: 0, cooldown: 0 }
    const visit = (history: History, path: string[]) => {
      if (path.length === length) return
      for (const what of STEPS) {
        let after: History | undefined
        try {
          after = step(history, what, rules)
        } catch (error) {
          throw new Error(`after ${[...path, what].join(', ')}: ${(error as Error).message}`)
        }
        if (!after) continue
        checked++
        if (what.endsWith('asks')) seen[after.runs.length > history.runs.length ? 'go' : expected({ ...history, now: after.now }, rules[what.split(' ')[0] as keyof typeof rules])]++
        const open = after.runs.filter(({ ended, over }) => !ended && !over)
        if (open.length > 1) throw new Error(`two are running after ${[...path, what].join(', ')}`)
        visit(after, [...path, what])
      }
    }
    visit({ now: NINE + 20 * MINUTE, runs: [], record: newSlot('k') }, [])
    console.log(`slots, ${checked} steps: ${JSON.stringify(seen)}`)
    expect(seen.go).toBeGreaterThan(500)
    expect(seen.running).toBeGreaterThan(500)
    expect(seen.done + seen.cooldown).toBeGreaterThan(100)
  })
})

// ---- the rules, at their edges ----

const NEVER_OVER = () => undefined

/** A record with this done. */
function shipped(since: number, at: number, slot: string | null = null, record = newSlot('k')): Slot {
  return finish(begin(record, { ...leaseOf(`run-${since}-${at}`, 'hourly', since), slot }), `run-${since}-${at}`, 'done', 'a note', at)!
}

const answerOf = (record: Slot, rule: Rule, now: number) => {
  const answer = ask(record, rule, now, NEVER_OVER)
  return answer.go ? 'go' : `${answer.reason} until ${answer.until}`
}

base('a period begins at its first millisecond and ends before the next', () => {
  const record = shipped(NINE, NINE + 1)
  const rule = { every: HOUR }
  expect(answerOf(record, rule, NINE + 2)).toBe('done until 2026-11-20T10:00:00.000Z')
  expect(answerOf(record, rule, NINE + HOUR - 1)).toBe('done until 2026-11-20T10:00:00.000Z')
  expect(answerOf(record, rule, NINE + HOUR)).toBe('go')
  expect(slotOf(rule, NINE - 1)).toBe('2026-11-20T08:00:00.000Z')
  expect(slotOf(rule, NINE)).toBe('2026-11-20T09:00:00.000Z')
})

base('a run counts for the period in which it began, however late it ends', () => {
  const record = shipped(NINE - 2 * MINUTE, NINE + 2 * MINUTE)
  expect(answerOf(record, { every: HOUR }, NINE + 3 * MINUTE)).toBe('go')
  expect(answerOf(record, { every: HOUR }, NINE - 1)).toBe('done until 2026-11-20T09:00:00.000Z')
})

base('an offset moves the edges, also one that is longer than the period', () => {
  const record = shipped(NINE, NINE + 1)
  for (const offset of [15 * MINUTE, 15 * MINUTE + 3 * HOUR]) {
    const rule = { every: HOUR, offset }
    expect(slotOf(rule, NINE)).toBe('2026-11-20T08:15:00.000Z')
    expect(answerOf(record, rule, NINE + 15 * MINUTE - 1)).toBe('done until 2026-11-20T09:15:00.000Z')
    expect(answerOf(record, rule, NINE + 15 * MINUTE)).toBe('go')
  }
})

base('two jobs with different periods are both closed by one done', () => {
  const record = shipped(NINE, NINE + 1)
  expect(answerOf(record, { every: 24 * HOUR }, NINE + 5 * HOUR)).toBe('done until 2026-11-21T00:00:00.000Z')
  expect(answerOf(record, { every: HOUR }, NINE + 5 * HOUR)).toBe('go')
})

base('a cooldown counts from the end of the last that was done, to the millisecond', () => {
  const record = shipped(NINE, NINE + 5 * MINUTE)
  const rule = { cooldown: 15 * MINUTE }
  expect(answerOf(record, rule, NINE + 20 * MINUTE - 1)).toBe('cooldown until 2026-11-20T09:20:00.000Z')
  expect(answerOf(record, rule, NINE + 20 * MINUTE)).toBe('go')
  expect(answerOf(record, { cooldown: 0 }, NINE + 5 * MINUTE)).toBe('go')
  expect(answerOf(record, { cooldown: Infinity }, NINE + 999 * HOUR)).toBe('cooldown until null')
})

base('a name is closed for good, and only itself; without a rule nothing is', () => {
  const record = shipped(NINE, NINE + 1, 'v1')
  expect(answerOf(record, { slot: 'v1' }, NINE + 999 * HOUR)).toBe('done until null')
  expect(answerOf(record, { slot: 'v2' }, NINE + 2)).toBe('go')
  expect(answerOf(record, {}, NINE + 2)).toBe('go')
})

base('a clock that was set back does not close a slot for as long as it was wrong', () => {
  const record = shipped(NINE + 24 * HOUR, NINE + 24 * HOUR + 1)
  expect(answerOf(record, { cooldown: 15 * MINUTE }, NINE)).toBe('go')
  expect(answerOf(record, { every: HOUR }, NINE)).toBe('go')
  // By seconds: that is jitter.
  expect(answerOf(shipped(NINE, NINE + 30_000), { cooldown: 15 * MINUTE }, NINE + 1)).toMatch(/^cooldown/)
})

base('what closes a slot is kept, however many runs come after it', () => {
  let record = shipped(NINE, NINE + 1, 'v1')
  for (let n = 1; n <= 500; n++) {
    const now = NINE + n * 1000
    record = shipped(now, now + 1, null, record)
    record = finish(begin(record, { ...leaseOf(`f${n}`, 'presence', now), slot: null }), `f${n}`, n % 3 === 0 ? 'failed' : 'free', null, now + 2)!
  }
  expect(answerOf(record, { slot: 'v1' }, NINE + HOUR)).toMatch(/^done/)
  expect(answerOf(record, { every: 24 * HOUR }, NINE + HOUR)).toMatch(/^done/)
  expect(record.outcomes.length).toBeLessThan(30)
  expect(record.outcomes[0]).toMatchObject({ id: 'f500' })
})

base('the done of the current period survives any number of failures after it, and the record stays small', () => {
  let record = newSlot('k')
  for (let period = 0; period < 300; period++) record = shipped(NINE + period * HOUR, NINE + period * HOUR + 1, iso(NINE + period * HOUR), record)
  const now = NINE + 299 * HOUR
  for (let n = 0; n < 200; n++) record = finish(begin(record, { ...leaseOf(`x${n}`, 'presence', now), slot: null }), `x${n}`, 'failed', null, now + n)!
  expect(answerOf(record, { every: HOUR }, now + 30 * MINUTE)).toMatch(/^done/)
  expect(record.failures).toBe(200)
  expect(record.outcomes.length).toBeLessThanOrEqual(120)
})

base('failures are counted in a row: a loss counts, done and free begin anew', () => {
  let record = newSlot('k')
  const run = (outcome: 'done' | 'failed' | 'free' | 'lost') => {
    const running: Running = { ...leaseOf('id', 'hourly', NINE), slot: null }
    record = begin(record, running)
    const after = outcome === 'lost' ? ask(record, {}, NINE, () => 'dead') : undefined
    record = after ? (after as { record: Slot }).record : finish(record, 'id', outcome as 'done', null, NINE)!
    return record.failures
  }
  expect((['failed', 'lost', 'failed', 'free', 'failed', 'done', 'lost'] as const).map(run)).toEqual([1, 2, 3, 0, 1, 0, 1])
})

// ---- gates of real processes ----

const workUrl = pathToFileURL(join(projectFolder, 'dist/work.js')).href

const test = base.extend<{ dir: string; job(options?: RemoteOptions): Promise<Remote> }>({
  dir: async ({ folder }, use) => use(initWorkspace(folder).dir),
  job: async ({ node, dir }, use) => use((options) => node({ dist: workUrl, cwd: dir, ...options })),
})

const go = async (key: string, options: GateOptions): Promise<Go> => {
  const answer = await gate(key, options)
  if (!answer.go) throw new Error(`expected to go, but: ${JSON.stringify(answer)}`)
  return answer
}
const skip = async (key: string, options: GateOptions): Promise<Skip> => {
  const answer = await gate(key, options)
  if (answer.go) throw new Error('expected to be refused')
  return answer
}
const refusal = (promise: Promise<unknown>): Promise<any> => promise.then((value) => expect.unreachable(`not refused: ${String(value)}`), (error: unknown) => error)
const dead = async (child: { pid: number; kill(signal: 'SIGKILL'): unknown; exitCode: unknown; signalCode: unknown }) => {
  child.kill('SIGKILL')
  await until(() => child.signalCode !== null)
}

test('the note of what was done reaches another process that is refused, with who and when', async ({ dir, job }) => {
  const presence = await job()
  const answer = await presence.ask(`gate('heartbeat', { owner: 'presence' })`)
  expect(answer).toMatchObject({ go: true, key: 'heartbeat', slot: null, recovered: null, failures: 0 })
  expect(await skip('heartbeat', { cooldown: '15m', owner: 'hourly', dir })).toMatchObject({ reason: 'running', by: 'presence', until: answer.expiresAt })
  await completeSlot('heartbeat', answer.token, { note: 'replied to the review', dir })
  const refused = await skip('heartbeat', { cooldown: '15m', owner: 'hourly', dir })
  expect(refused).toEqual({ go: false, key: 'heartbeat', slot: null, reason: 'cooldown', by: 'presence', at: expect.any(String), until: expect.any(String), note: 'replied to the review' })
  expect(Date.parse(refused.until!) - Date.parse(refused.at)).toBe(15 * MINUTE)
  expect(await presence.ask(`gate('heartbeat', { owner: 'presence' })`)).toMatchObject({ go: true })
})

test.for([
  ['complete', completeSlot, 'done'],
  ['fail', failSlot, 'failed'],
  ['free', freeSlot, 'free'],
] as const)('%s ends a run, by method and by token from another process, once', async ([method, byToken, outcome], { dir, job }) => {
  const first = await go('k', { slot: 'v1', dir })
  await first[method]('by method')
  expect(listSlots({ dir })).toMatchObject([{ key: 'k', state: outcome, running: null, last: { outcome, note: 'by method', slot: 'v1' } }])
  await expect(first[method]()).rejects.toMatchObject({ code: 'ENOTACQUIRED', message: expect.stringContaining(`the run ended as ${outcome} at`) })
  expect((await gate('k', { slot: 'v1', dir })).go).toBe(outcome !== 'done')
  const second = await go('other', { slot: 'v1', dir })
  const elsewhere = await job()
  await elsewhere.ask(`${method}Slot('other', '${second.token}', { note: 'by token' })`)
  expect(listSlots({ dir })[1]).toMatchObject({ key: 'other', state: outcome, failures: outcome === 'failed' ? 1 : 0, last: { note: 'by token' } })
  await expect(byToken('other', second.token, { dir })).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
})

test('when the process of a run is killed, the slot is open at once, and the next is told, once', async ({ dir, command }) => {
  const worker = command('sleep', '600')
  const first = await go('k', { every: '1h', owner: 'hourly', pid: worker.pid, dir })
  expect(await skip('k', { dir })).toMatchObject({ reason: 'running', by: 'hourly' })
  await dead(worker)
  expect(listSlots({ dir })).toMatchObject([{ state: 'stale', why: 'dead' }])
  const next = await go('k', { every: '1h', owner: 'presence', dir })
  expect(next).toMatchObject({ recovered: { by: 'hourly', why: 'dead', slot: next.slot, since: expect.any(String) }, failures: 1 })
  await next.fail()
  expect(await go('k', { dir })).toMatchObject({ recovered: null, failures: 2 })
  expect(readEvents(dir).filter(({ type }) => type === 'recovered')).toMatchObject([{ what: 'slot:k', by: 'presence', against: 'hourly', why: 'dead' }])
  await expect(first.complete()).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
})

test('when the TTL of a run is over, the slot is open, and the next is told; who comes late is told by whom', async ({ dir, job }) => {
  const slow = await job()
  const { token } = await slow.ask(`gate('k', { owner: 'slow', ttl: 300 })`)
  let next: Go | Skip
  await until(async () => (next = await gate('k', { owner: 'next', dir })).go)
  expect(next!).toMatchObject({ recovered: { by: 'slow', why: 'expired' } })
  const late = await refusal(slow.ask(`completeSlot('k', ${JSON.stringify(token)})`))
  expect(late).toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED', message: expect.stringMatching(/"k".*its time was over, or its process dead.*"next" has it since/) })
  for (const call of [renewSlot('k', token, { dir }), failSlot('k', token, { dir }), bindSlot('k', token, process.pid, { dir })]) await expect(call).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
  // The record is the successor's.
  expect(listSlots({ dir })).toMatchObject([{ state: 'running', running: { by: 'next' } }])
  expect(readEvents(dir).filter(({ type, against }) => type === 'refused' && against === 'next').length).toBe(4)
})

test('a lease that is over and that nobody took is still its own: it can be renewed and ended', async ({ dir }) => {
  const slow = await go('k', { ttl: 100, dir })
  await until(() => listSlots({ dir })[0]!.state === 'stale')
  expect(Date.parse(await slow.renew())).toBeGreaterThan(Date.parse(slow.expiresAt))
  await until(() => listSlots({ dir })[0]!.state === 'stale')
  await slow.complete('after all')
  expect(listSlots({ dir })).toMatchObject([{ state: 'done', last: { note: 'after all' } }])
})

test('renewing holds a slot beyond its first TTL', async ({ dir }) => {
  const run = await go('k', { ttl: '5s', dir })
  const before = listSlots({ dir })[0]!.running!
  await sleep(20)
  expect(Date.parse(await run.renew())).toBeGreaterThan(Date.parse(before.until))
  expect(Date.parse(await renewSlot('k', run.token, { dir }))).toBeGreaterThan(Date.parse(before.until))
  expect(listSlots({ dir })[0]!.running!).toMatchObject({ since: before.since, id: before.id })
})

test('a run that is bound to two processes is over when both are dead, not before', async ({ dir, command }) => {
  const [wrapper, child] = [command('sleep', '600'), command('sleep', '600')]
  const run = await go('k', { pid: wrapper.pid, owner: 'run', dir })
  await run.bind(child.pid)
  await dead(wrapper)
  expect(await skip('k', { dir })).toMatchObject({ reason: 'running' })
  await dead(child)
  expect(await go('k', { dir })).toMatchObject({ recovered: { by: 'run', why: 'dead' } })
})

test('a run can be bound to three living processes, not to more, and not to a dead one', async ({ dir, command }) => {
  const run = await go('k', { dir })
  const children = [1, 2, 3, 4].map(() => command('sleep', '600'))
  for (const { pid } of children.slice(0, 3)) await run.bind(pid)
  await run.bind(children[0]!.pid)
  await expect(run.bind(children[3]!.pid)).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('3 processes') })
  await dead(children[3]!)
  const other = await go('other', { dir })
  await expect(other.bind(children[3]!.pid)).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('living process') })
  expect(listSlots({ dir })[0]!.running!.processes!.map(({ pid }) => pid)).toEqual([children[1]!.pid, children[2]!.pid, children[0]!.pid])
})

test('of twenty processes that ask at once one goes, and the others are told which', async ({ dir, job }) => {
  const jobs = await Promise.all(Array.from({ length: 20 }, () => job()))
  for (const rule of [{}, { every: '1h' }, { cooldown: '15m' }]) {
    const key = Object.keys(rule)[0] ?? 'no rule'
    const answers: (Go | Skip)[] = await Promise.all(jobs.map((each, n) => each.ask(`gate(${JSON.stringify(key)}, ${JSON.stringify({ ...rule, owner: `job ${n}` })})`)))
    const winners = answers.flatMap((answer, n) => (answer.go ? [`job ${n}`] : []))
    expect(winners).toHaveLength(1)
    for (const answer of answers) if (!answer.go) expect(answer).toMatchObject({ reason: 'running', by: winners[0] })
  }
  expect(readEvents(dir).filter(({ type }) => type === 'skipped')).toHaveLength(57)
}, 90_000)

test('a killed job at every moment leaves a slot that the next can have', async ({ dir, job }) => {
  // Killed while it gates and ends, over and over.
  for (let kills = 0; kills < 8; kills++) {
    const busy = await job()
    const dies = busy.ask(`(async () => { for (;;) { const answer = await gate('k', { owner: 'busy', pid: process.pid }); if (answer.go) await answer.free() } })()`).catch(() => {})
    await until(() => listSlots({ dir }).length > 0)
    await sleep(5 + kills * 7)
    await busy.kill()
    await dies
    const answer = await go('k', { owner: 'next', dir })
    await answer.free()
  }
  expect(JSON.parse(fs.readFileSync(join(dir, '.lockpact/slots.json'), 'utf8'))).toMatchObject({ v: 1 })
})

test('a pid of another container is nobody of here: neither takes a run for dead', async ({ dir, job, command, skip: skipTest }) => {
  skipTest(lacks.pidNamespaces !== '', lacks.pidNamespaces)
  const inner = await job({ wrap: inPidNamespaceWithProc })
  const run = await go('k', { owner: 'here', dir })
  // Bound in there: its pid means another process here, or none.
  await inner.ask(`bindSlot('k', ${JSON.stringify(run.token)}, process.pid)`)
  expect(await skip('k', { dir })).toMatchObject({ reason: 'running', by: 'here' })
  expect(await inner.ask(`gate('k')`)).toMatchObject({ go: false })
  await expect(bindSlot('k', run.token, command('sleep', '600').pid, { dir })).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('another machine, container or boot') })
  await run.complete()
})

base('a lease renewed where its boot clock means nothing loses that clock, and is judged by the wall', () => {
  const { lease } = beginLease({ owner: 'x', ttlMs: 1_000, pid: process.pid })
  const elsewhere: Lease = { ...lease, place: 'another boot/1/1', bootMs: 1 }
  const renewed = extendLease(elsewhere)
  expect(renewed.bootMs).toBeUndefined()
  expect(renewed.place).toBe('another boot/1/1')
  expect(overBy(renewed)).toBeUndefined()
})

// ---- the document ----

const slotsFile = (dir: string) => join(dir, '.lockpact/slots.json')
const aside = (dir: string) => fs.readdirSync(join(dir, '.lockpact')).filter((name) => name.includes('corrupt'))

/** A sound document with an outcome and a run. */
async function sound(dir: string): Promise<{ v: number; rev: number; slots: Record<string, any>[] }> {
  await (await go('k', { dir, owner: 'hourly', slot: 'v1' })).complete('note')
  await go('k', { dir, owner: 'hourly', pid: process.pid })
  return JSON.parse(fs.readFileSync(slotsFile(dir), 'utf8'))
}

async function expectMovedAside(dir: string, bytes: Buffer | string): Promise<void> {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  try {
    fs.writeFileSync(slotsFile(dir), bytes)
    const shown = String(bytes).slice(0, 300)
    expect(await gate('k', { owner: 'next', dir }), shown).toMatchObject({ go: true, recovered: null })
    expect(aside(dir), shown).toHaveLength(1)
    expect(fs.readFileSync(join(dir, '.lockpact', aside(dir)[0]!)).equals(Buffer.from(bytes)), shown).toBe(true)
    expect(readEvents(dir).filter(({ type }) => type === 'damaged')).toMatchObject([{ what: 'slots', why: expect.stringContaining('corrupt') }])
    expect(warned).toHaveBeenCalledOnce()
    expect(await gate('k', { owner: 'after', dir }), shown).toMatchObject({ go: false, by: 'next' })
    expect(aside(dir)).toHaveLength(1)
  } finally {
    warned.mockRestore()
    for (const name of aside(dir)) fs.rmSync(join(dir, '.lockpact', name))
    fs.rmSync(join(dir, '.lockpact/events.jsonl'))
  }
}

test('a damaged document is moved aside byte for byte, and the gate answers', async ({ dir }) => {
  const whole = JSON.stringify(await sound(dir))
  fs.rmSync(join(dir, '.lockpact/events.jsonl'), { force: true })
  const texts = ['', ' ', '\n', '{', 'null', '[]', '{}', '0', '"slots"', whole.slice(0, -1), whole.slice(0, whole.length / 2), `${whole}x`, `<<<<<<< HEAD\n${whole}\n=======\n${whole}\n>>>>>>> b\n`]
  const shapes = ['{"v":1,"rev":1}', '{"v":1,"rev":1,"slots":{}}', '{"v":1,"rev":1,"slots":[null]}', '{"v":1,"rev":1,"slots":[1]}', '{"v":1,"rev":1,"slots":[[]]}', '{"v":1,"rev":"1","slots":[]}', '{"v":1,"slots":[]}', '{"rev":1,"slots":[]}', '{"v":0,"rev":1,"slots":[]}', '{"v":"2","rev":1,"slots":[]}', '{"v":1,"rev":1,"slots":[\nnull\n]}\n', '{"v":1,"rev":1,"intents":[\n]}\n']
  for (const text of [...texts, ...shapes, Buffer.from([0xff, 0xfe, 0, 1, 2, 0x80]), Buffer.alloc(4096)]) await expectMovedAside(dir, text)
})

test('so is one in which a person broke an entry', async ({ dir }) => {
  const whole = await sound(dir)
  fs.rmSync(join(dir, '.lockpact/events.jsonl'), { force: true })
  const broken: [string, unknown[]][] = [
    ['key', [undefined, null, 1]],
    ['running', [undefined, 1, 'hourly', [], {}]],
    ['failures', [undefined, 'many', 0.5, null]],
    ['outcomes', [undefined, null, {}, [null], [1], [{}]]],
    ['running.id', [undefined, 1]],
    ['running.by', [undefined, 1]],
    ['running.since', [undefined, 0, 'yesterday']],
    ['running.until', [undefined, null, '']],
    ['running.ttlMs', [undefined, '1h', 0, -1, 1e300]],
    ['running.bootMs', ['1', null]],
    ['running.place', [1, null]],
    ['running.slot', [undefined, 1]],
    ['running.processes', [null, {}, [null], [1], [{}], [{ pid: '1' }], [{ pid: 0 }], [{ pid: -1 }], [{ pid: 1e12 }], [{ pid: 1, start: 1 }]]],
    ['outcomes.0.outcome', [undefined, 'shipped']],
    ['outcomes.0.at', [undefined, 1]],
    ['outcomes.0.since', [null]],
    ['outcomes.0.note', [1, undefined]],
    ['outcomes.0.id', [1]],
  ]
  let count = 0
  for (const [path, values] of broken) {
    for (const value of values) {
      const copy = structuredClone(whole)
      const names = path.split('.')
      const last = names.pop()!
      const parent = names.reduce<any>((from, name) => from[name], copy.slots[0])
      parent[last] = value
      await expectMovedAside(dir, JSON.stringify(copy))
      count++
    }
  }
  expect(count).toBe(broken.flatMap(([, values]) => values).length)
})

test('one that a person has pretty-printed, in whole or in part, is not damaged', async ({ dir }) => {
  const whole = await sound(dir)
  const line = JSON.stringify(whole.slots[0])
  for (const text of [JSON.stringify(whole, null, 2), JSON.stringify(whole), `${JSON.stringify(whole, null, '\t')}\n\n`, `{"v":1,"rev":7,"slots":[\n${JSON.stringify(whole.slots[0], null, 2)}\n]}\n`, `{"v":1,"rev":7,"slots":[\n${line}]}`, JSON.stringify(whole, null, 2).replaceAll('\n', '\r\n')]) {
    fs.writeFileSync(slotsFile(dir), text)
    expect(await skip('k', { dir }), text).toMatchObject({ reason: 'running', by: 'hourly' })
    await go('another key', { dir, owner: 'x' })
    expect(listSlots({ dir }), text).toMatchObject([{ key: 'k', last: { note: 'note' } }, { key: 'another key' }])
  }
  expect(aside(dir)).toEqual([])
})

test('times that are none do not close a slot for ever', async ({ dir }) => {
  const whole = await sound(dir)
  const { bootMs, place, processes, ...running } = whole.slots[0]!['running']
  whole.slots[0]!['running'] = { ...running, since: '2026-99-99T99:99:99.999Z', until: '2026-99-99T99:99:99.999Z' }
  for (const name of ['at', 'since']) whole.slots[0]!['outcomes'][0][name] = '2026-99-99T99:99:99.999Z'
  fs.writeFileSync(slotsFile(dir), JSON.stringify(whole))
  expect(await go('k', { every: '1h', cooldown: '15m', dir })).toMatchObject({ recovered: { by: 'hourly', why: 'expired' } })
})

test('a document of a newer version is refused and not touched', async ({ dir }) => {
  await sound(dir)
  const text = '{"v":2,"rev":1,"slots":"something new"}'
  fs.writeFileSync(slotsFile(dir), text)
  const newer = { name: 'LockError', code: 'EINVAL', message: expect.stringMatching(/newer lockpact \(version 2\); upgrade/) }
  await expect(gate('k', { dir })).rejects.toMatchObject(newer)
  await expect(completeSlot('k', 'token', { dir })).rejects.toMatchObject(newer)
  expect(() => listSlots({ dir })).toThrow(expect.objectContaining(newer))
  expect(fs.readFileSync(slotsFile(dir), 'utf8')).toBe(text)
  expect(aside(dir)).toEqual([])
})

test('a key is a text like any other, also one that objects have already', async ({ dir }) => {
  const keys = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', ' ', '../x', 'a/b', '"', 'é', '👩‍👧', '.', 'x'.repeat(200)]
  for (const key of keys) expect(await go(key, { dir, owner: key.slice(0, 20) })).toMatchObject({ key, failures: 0, recovered: null })
  for (const key of keys) expect(await skip(key, { dir })).toMatchObject({ key, by: key.slice(0, 20) })
  expect(listSlots({ dir }).map(({ key }) => key)).toEqual(keys)
})

// ---- what people pass in ----

const anything = (value: unknown) => value as never
const notTexts = [null, 1, true, {}, [], Symbol('k'), 5n, () => 'k']
const notDurations = [-1, Number.NaN, -Infinity, '', '5', '5 min', '1w', '1h\n', null, true, {}, []]

test('a wrong argument is refused with EINVAL, and nothing is written', async ({ dir }) => {
  const calls: [string, () => Promise<unknown>][] = []
  const call = (name: string, run: () => Promise<unknown>) => calls.push([name, run])
  const keys = [undefined, '', 'x'.repeat(201), 'x'.repeat(10_000), 'a\nb', 'a\rb', 'a\0b', 'a\u2028b', ...notTexts]
  for (const key of keys) {
    call(`gate ${String(key).slice(0, 30)}`, () => gate(anything(key), { dir }))
    call(`completeSlot ${String(key).slice(0, 30)}`, () => completeSlot(anything(key), 'token', { dir }))
  }
  for (const options of [null, 1, 'dir', true]) {
    call(`gate, options ${options}`, () => gate('k', anything(options)))
    for (const [name, ending] of Object.entries({ completeSlot, failSlot, freeSlot, renewSlot })) call(`${name}, options ${options}`, () => ending('k', 'token', anything(options)))
    call(`bindSlot, options ${options}`, () => bindSlot('k', 'token', process.pid, anything(options)))
    call(`listSlots, options ${options}`, async () => listSlots(anything(options)))
  }
  const wrong: Record<string, unknown[]> = {
    every: [0, 0.5, Infinity, 1e300, '100000d', 5e-324, ...notDurations],
    ttl: [0, Infinity, 1e300, ...notDurations],
    cooldown: notDurations,
    slot: ['', 'a\nb', 'x'.repeat(201), ...notTexts],
    owner: ['x'.repeat(121), '\0'.repeat(100), ...notTexts],
    pid: [0, -1, 1.5, Number.NaN, 2 ** 31, '1', null, {}, 2 ** 22 + 1],
    dir: ['', 'a\0b', join(dir, 'not there'), 'x'.repeat(10_000), ...notTexts],
    cooldwon: ['15m'],
  }
  for (const [name, values] of Object.entries(wrong)) for (const value of values) call(`gate, ${name} ${String(value).slice(0, 30)}`, () => gate('k', anything({ dir, [name]: value })))
  for (const offset of [Infinity, 1e300, ...notDurations]) call(`gate, offset ${String(offset)}`, () => gate('k', anything({ dir, every: '1h', offset })))
  call('gate, every and slot', () => gate('k', { every: '1h', slot: 'v1', dir }))
  call('gate, offset alone', () => gate('k', { offset: '5m', dir }))
  for (const token of [undefined, '', ...notTexts]) call(`completeSlot, token ${String(token)}`, () => completeSlot('k', anything(token), { dir }))
  for (const note of ['x'.repeat(1_000_000), 'a\nb', '\0', ...notTexts]) call(`completeSlot, note ${String(note).slice(0, 30)}`, () => completeSlot('k', 'token', anything({ note, dir })))
  for (const [name, run] of calls) {
    const error = await refusal(run())
    // A folder's name that no system takes is the system's to refuse.
    expect(error, name).toMatchObject({ name: 'LockError', code: name.startsWith('gate, dir xxx') ? 'ENAMETOOLONG' : 'EINVAL' })
    expect(error.message, name).not.toMatch(/\n|undefined is not|Cannot read/)
    expect(error.message.length, name).toBeLessThan(11_000)
  }
  console.log(`slots: ${calls.length} wrong arguments refused`)
  expect(fs.readdirSync(join(dir, '.lockpact'))).toEqual(['.gitignore'])
})

test('a wrong argument of a method leaves the run as it is', async ({ dir }) => {
  const run = await go('k', { dir })
  const before = fs.readFileSync(slotsFile(dir), 'utf8')
  for (const note of ['x'.repeat(1_000_000), 'a\nb', ...notTexts]) await expect(run.complete(anything(note))).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL' })
  for (const pid of [undefined, null, 0, -1, '1', 2 ** 40, {}]) await expect(run.bind(anything(pid))).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL' })
  expect(fs.readFileSync(slotsFile(dir), 'utf8')).toBe(before)
  await run.complete('é'.repeat(1_000))
  expect(listSlots({ dir })[0]!.last!.note).toBe('é'.repeat(1_000))
})

test('an empty note is none', async ({ dir }) => {
  const run = await go('k', { dir })
  await run.complete('')
  expect(listSlots({ dir })[0]!.last!.note).toBeNull()
})
