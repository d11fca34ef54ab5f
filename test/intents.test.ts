/*
 * Write intents: who may write where. First the pure decisions, against a small model; then the registry, with real processes.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { acquireLock } from 'lockpact'
import { expect, vi } from 'vitest'
import { type Conflict, type DeclareOptions, declareWrites, initWorkspace, listIntents, readEvents, renewWrites, withdrawWrites } from '../dist/work.js'
import { conflictsOf, type Intent as Entry, noted, overlap, replaced } from '../lib/work/intents.js'
import { inPidNamespaceWithProc, lacks, type Remote, type RemoteOptions, test as base } from './remote.js'
import { projectFolder, sleep, until } from './support.js'

// ---- which paths overlap ----

const PATHS = ['.', 'memory', 'memory/queue.md', 'memory/queue.md::head', 'memory/queue.md::tail', 'memory/queue.md.bak', 'memory/log', 'memory-old', 'memory-old/queue.md', 'memory::head', 'name:memory', 'name:memory/queue.md']
const TABLE = [
  //                          .  m  q  qh qt qb l  o  oq mh n  nq
  /* . */ '                   x  x  x  x  x  x  x  x  x  x  -  -',
  /* memory */ '              x  x  x  x  x  x  x  -  -  x  -  -',
  /* memory/queue.md */ '     x  x  x  x  x  -  -  -  -  -  -  -',
  /* …::head */ '             x  x  x  x  -  -  -  -  -  -  -  -',
  /* …::tail */ '             x  x  x  -  x  -  -  -  -  -  -  -',
  /* memory/queue.md.bak */ ' x  x  -  -  -  x  -  -  -  -  -  -',
  /* memory/log */ '          x  x  -  -  -  -  x  -  -  -  -  -',
  /* memory-old */ '          x  -  -  -  -  -  -  x  x  -  -  -',
  /* memory-old/queue.md */ ' x  -  -  -  -  -  -  x  x  -  -  -',
  /* memory::head */ '        x  x  -  -  -  -  -  -  -  x  -  -',
  /* name:memory */ '         -  -  -  -  -  -  -  -  -  -  x  -',
  /* name:memory/queue.md */ '-  -  -  -  -  -  -  -  -  -  -  x',
].map((row) => row.trim().split(/\s+/).map((mark) => mark === 'x'))

base('a folder covers what is below it, a file its parts; a free name only itself: every pair', () => {
  for (const [row, one] of PATHS.entries()) {
    for (const [column, other] of PATHS.entries()) {
      expect(TABLE[row]![column], `the table, ${one} and ${other}`).toBe(TABLE[column]![row])
      expect(overlap(one, other), `${one} and ${other}`).toBe(TABLE[row]![column])
    }
  }
})

// ---- admission, as a model ----

const entryOf = (task: string, writes: string[], queued?: true): Entry => ({ id: task, task, writes, by: null, since: '', until: '', ttlMs: 1, ...(queued && { queued }) })

/** By the table above, not by the code. */
const touches = (one: Entry, other: Entry) => one.writes.some((ours) => other.writes.some((theirs) => TABLE[PATHS.indexOf(ours)]![PATHS.indexOf(theirs)]))

/** A random number that can be repeated. */
function randomOf(seed: number): (below: number) => number {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
}

base('in random registries no two that overlap are ever active, the queue is first come first served, and all of it drains', () => {
  const counts = { registries: 0, submitted: 0, admitted: 0, refused: 0, waited: 0, died: 0 }
  for (let seed = 0; seed < 3_000; seed++) {
    const random = randomOf(seed)
    let registry: Entry[] = []
    const dead = new Set<string>()
    const isOver = ({ id }: Entry) => dead.has(id)
    const others = (entry: Entry) => (each: Entry) => each.id === entry.id
    const active = () => registry.filter(({ queued, id }) => !queued && !dead.has(id))
    const check = (what: string) => {
      const now = active()
      for (const one of now) for (const other of now) if (one !== other && touches(one, other)) throw new Error(`seed ${seed}, ${what}: ${one.task} and ${other.task} are both active`)
    }
    const submit = (n: number) => {
      const writes = Array.from({ length: 1 + random(3) }, () => PATHS[random(PATHS.length)]!)
      const entry = entryOf(`${n}`, writes)
      const conflicts = conflictsOf(registry, writes, others(entry), isOver)
      // Refused and queued by the same conflicts: who is active, and who waits already.
      expect(conflicts.map(({ task }) => task)).toEqual(registry.filter((each) => !dead.has(each.id) && touches(each, entry)).map(({ task }) => task))
      counts.submitted++
      if (conflicts.length === 0) registry = [...registry, entry]
      else if (random(4) === 0) counts.refused++
      else registry = [...registry, { ...entry, queued: true }]
      if (conflicts.length > 0) counts.waited++
    }
    const look = (entry: Entry) => {
      const index = registry.indexOf(entry)
      if (conflictsOf(registry, entry.writes, others(entry), isOver, index).length > 0) return false
      const earlier = registry.slice(0, index).find((each) => each.queued && !dead.has(each.id) && touches(each, entry))
      if (earlier) throw new Error(`seed ${seed}: ${entry.task} overtakes ${earlier.task}`)
      registry = replaced(registry, entry.id, ({ queued, ...rest }) => rest)!
      counts.admitted++
      return true
    }
    for (let step = 0, submitted = 0; step < 25; step++) {
      const what = random(5)
      const one = registry[random(registry.length || 1)]
      if (what < 2 || !one) submit(submitted++)
      else if (what === 2 && one.queued && !dead.has(one.id)) look(one)
      else if (what === 3 && !one.queued) registry = replaced(registry, one.id, () => undefined)!
      else if (what === 4 && random(3) === 0) {
        dead.add(one.id)
        counts.died++
      }
      check(`step ${step}`)
    }
    // Whoever waits looks; whoever is active ends: nobody waits for ever.
    for (let rounds = 0; registry.some(({ id }) => !dead.has(id)); rounds++) {
      if (rounds > 100) throw new Error(`seed ${seed}: it does not drain: ${JSON.stringify(registry)}`)
      for (const entry of registry.filter(({ queued, id }) => queued && !dead.has(id))) look(entry)
      check('draining')
      registry = registry.filter(({ queued }) => queued)
    }
    counts.registries++
  }
  console.log(`intents, model: ${JSON.stringify(counts)}`)
  for (const count of Object.values(counts)) expect(count).toBeGreaterThan(1_000)
})

base('an overlap is noted with those whom the newcomer knows of, and with nobody else; the notes are bounded', () => {
  const conflict = (task: string | null): Conflict => ({ path: 'memory', task, owner: null, since: null, expiresAt: null })
  const newest = { ...entryOf('new', ['memory']), overlaps: [conflict('a'), conflict(null)] }
  const registry = [entryOf('a', ['memory/queue.md']), entryOf('b', ['memory-old']), entryOf('c', ['memory/log'])]
  const [a, b, c] = noted(registry, newest) as [Entry, Entry, Entry]
  expect(a.overlaps).toMatchObject([{ task: 'new', path: 'memory' }])
  expect([b, c]).toEqual(registry.slice(1))
  let many = registry
  for (let n = 0; n < 100; n++) many = noted(many, newest)
  expect(many[0]!.overlaps!.length).toBeLessThan(30)
})

// ---- the registry ----

const workUrl = pathToFileURL(join(projectFolder, 'dist/work.js')).href

const test = base.extend<{ dir: string; job(options?: RemoteOptions): Promise<Remote>; declare(task: string, writes: string | string[], more?: Partial<DeclareOptions>): ReturnType<typeof declareWrites> }>({
  dir: async ({ folder }, use) => use(initWorkspace(folder).dir),
  job: async ({ node, dir }, use) => use((options) => node({ dist: workUrl, cwd: dir, ...options })),
  declare: async ({ dir }, use) => use((task, writes, more = {}) => declareWrites({ task, writes: [writes].flat(), dir, ...more })),
})

type Refusal = Error & { code: string; conflicts: Conflict[] }
const refusal = (promise: Promise<unknown>): Promise<Refusal> => promise.then((value) => expect.unreachable(`not refused: ${String(value)}`), (error) => error)
const tasks = (dir: string, state = 'active') => listIntents({ dir }).filter((each) => each.state === state).map(({ task }) => task)
const eventsOf = (dir: string, ...types: string[]) => readEvents(dir).filter(({ type }) => types.includes(type))
const killed = async (child: { kill(signal: 'SIGKILL'): unknown; signalCode: unknown }) => {
  child.kill('SIGKILL')
  await until(() => child.signalCode !== null)
}

test('a conflicting task is refused with the name of the task in its way, and nothing of it is declared', async ({ dir, declare, job }) => {
  const other = await job()
  await other.ask(`declareWrites({ task: 'weekly-report', writes: ['memory/queue.md', 'reports'], owner: 'agent 7' })`)
  const told: Conflict[][] = []
  const refused = await refusal(declare('hourly', ['free.md', 'memory', 'reports/2026.md'], { onConflict: (conflicts) => told.push(conflicts) }))
  expect(refused).toMatchObject({ name: 'LockError', code: 'ELOCKED', retryAfterMs: expect.any(Number) })
  expect(refused.message).toMatch(/"hourly" must not write to .*"weekly-report" \("agent 7"\) is at it since .*until .*lockpact intents/)
  expect(refused.conflicts).toEqual([{ path: expect.stringMatching(/^(memory\/queue\.md|reports)$/), task: 'weekly-report', owner: 'agent 7', since: expect.any(String), expiresAt: expect.any(String) }])
  expect(told).toEqual([refused.conflicts])
  expect(tasks(dir)).toEqual(['weekly-report'])
  await (await declare('hourly', 'free.md')).release()
  expect(eventsOf(dir, 'conflict')).toMatchObject([{ by: 'hourly', against: 'weekly-report', why: 'declared' }])
})

test('two spellings, a symlink, and a dangling symlink are one path', async ({ dir, declare }) => {
  fs.mkdirSync(join(dir, 'memory/deep'), { recursive: true })
  fs.symlinkSync('memory', join(dir, 'mem'))
  fs.symlinkSync('memory/not-yet.md', join(dir, 'dangling.md'))
  fs.symlinkSync('queue.md', join(dir, 'memory/link.md'))
  const spellings = {
    'memory/queue.md': ['./memory/queue.md', 'memory//queue.md', 'memory/deep/../queue.md', join(dir, 'memory/queue.md'), 'mem/queue.md', 'mem/link.md', 'memory/./queue.md'],
    'memory/not-yet.md': ['dangling.md', 'mem/not-yet.md', './dangling.md'],
    memory: ['mem', 'memory/', './mem/', 'memory/deep/..'],
    '.': ['./', dir, 'memory/..'],
    'memory/queue.md::head': ['mem/queue.md::head', 'mem/link.md::head'],
    'name:deploy': ['name:deploy'],
  }
  for (const [path, others] of Object.entries(spellings)) {
    const intent = await declare('one', path)
    expect(intent.writes).toEqual([path])
    for (const other of others) expect((await refusal(declare('two', other))).conflicts, other).toMatchObject([{ path, task: 'one' }])
    await intent.release()
    const same = await declare('one', [path, ...others])
    expect(same.writes).toEqual([path])
    await same.release()
  }
  expect(listIntents({ dir })).toEqual([])
})

test('what is covered by another of its paths is not kept twice', async ({ declare }) => {
  expect((await declare('a', ['memory/queue.md', 'memory', 'memory/queue.md::head', 'memory-old', 'name:x'])).writes).toEqual(['memory', 'memory-old', 'name:x'])
})

test('a lock that somebody holds is a conflict: on the file, on a part, below a folder, on a folder above; our own is none, a foreign file neither', async ({ dir, job, declare }) => {
  fs.mkdirSync(join(dir, 'memory/deep'), { recursive: true })
  const other = await job({ dist: pathToFileURL(join(projectFolder, 'dist/index.js')).href })
  const conflictsWhile = async (lock: string, path: string) => {
    await other.ask(`(async () => { globalThis.lock = await acquireLock(${JSON.stringify(lock)}, { owner: 'holder' }) })()`)
    const conflicts = await declare('t', path).then((intent) => intent.release().then(() => []), (error: Refusal) => error.conflicts)
    await other.ask('lock.release()')
    return conflicts.map(({ path, task, owner }) => `${path} ${task} ${owner}`)
  }
  expect(await conflictsWhile('memory/queue.md', 'memory/queue.md')).toEqual(['memory/queue.md null holder'])
  expect(await conflictsWhile('memory/queue.md::head', 'memory/queue.md')).toEqual([expect.stringMatching(/^memory\/queue\.md(::|@)head null holder$/)])
  expect(await conflictsWhile('memory/queue.md', 'memory/queue.md::head')).toEqual(['memory/queue.md null holder'])
  expect(await conflictsWhile('memory/queue.md::tail', 'memory/queue.md::head')).toEqual([])
  expect(await conflictsWhile('memory/deep/a.md', 'memory')).toEqual(['memory/deep/a.md null holder'])
  expect(await conflictsWhile('memory/deep/a.md', '.')).toEqual(['memory/deep/a.md null holder'])
  expect(await conflictsWhile('memory', 'memory/deep/a.md')).toEqual(['memory null holder'])
  expect(await conflictsWhile('memory/queue.md', 'memory/queue.md.bak')).toEqual([])
  expect(await conflictsWhile('memory-old', 'memory')).toEqual([])
  expect(await conflictsWhile('name:deploy', 'name:deploy')).toEqual(['name:deploy null holder'])
  expect(await conflictsWhile('name:deploy', 'name:other')).toEqual([])
  expect(eventsOf(dir, 'conflict').every(({ why, against }) => why === 'locked' && against === 'holder')).toBe(true)

  const own = await acquireLock(join(dir, 'memory/queue.md'))
  await (await declare('t', 'memory')).release()
  await own.release()
  for (const foreign of ['yarn.lock', 'Cargo.lock', 'memory/flake.lock']) fs.writeFileSync(join(dir, foreign), '# lockfile v1\n')
  fs.mkdirSync(join(dir, 'memory/queue.md.lock'))
  await (await declare('t', ['yarn', '.'])).release()
  // A lock whose holder is dead is in nobody's way.
  await other.ask(`acquireLock('memory/dead.md').then(() => 0)`)
  await other.kill()
  await (await declare('t', '.')).release()
})

test('a lock of the worker that the intent is for is its own', async ({ declare, job }) => {
  const worker = await job({ dist: pathToFileURL(join(projectFolder, 'dist/index.js')).href })
  await worker.ask(`acquireLock('queue.md').then(() => 0)`)
  expect((await refusal(declare('t', 'queue.md'))).code).toBe('ELOCKED')
  await declare('t', 'queue.md', { pid: worker.pid })
})

test('a lock of the same pid in another container is somebody else’s', async ({ dir, job, skip }) => {
  skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
  const [one, other] = await Promise.all([job({ wrap: inPidNamespaceWithProc }), job({ wrap: inPidNamespaceWithProc, dist: pathToFileURL(join(projectFolder, 'dist/index.js')).href })])
  expect(one.pid).toBe(other.pid)
  await other.ask(`acquireLock('queue.md', { owner: 'other' }).then(() => 0)`)
  await expect(one.ask(`declareWrites({ task: 't', writes: ['queue.md'], dir: ${JSON.stringify(dir)} })`)).rejects.toMatchObject({ code: 'ELOCKED', message: expect.stringContaining('the lock of "other"') })
})

test('a task never blocks itself; two living processes under one name do', async ({ dir, declare, command }) => {
  const first = await declare('hourly', 'memory')
  await declare('hourly', 'memory/queue.md')
  await first.release()
  for (const { task } of listIntents({ dir })) expect(task).toBe('hourly')
  const [one, other] = [command('sleep', '600'), command('sleep', '600')]
  await declare('dispatch', 'reports', { pid: one.pid })
  await declare('dispatch', 'reports', { pid: one.pid })
  expect((await refusal(declare('dispatch', 'reports', { pid: other.pid }))).conflicts).toMatchObject([{ task: 'dispatch' }, { task: 'dispatch' }])
  await killed(one)
  await declare('dispatch', 'reports', { pid: other.pid })
})

test('two dispatches of one name wait for each other in the order in which they came', async ({ dir, declare, command }) => {
  const workers = [1, 2, 3].map(() => command('sleep', '600'))
  const order: number[] = []
  const first = await declare('dispatch', 'reports', { pid: workers[0]!.pid })
  const queue = async (n: number) => {
    const intent = await declare('dispatch', 'reports', { pid: workers[n]!.pid, policy: 'queue' })
    order.push(n)
    await intent.release()
  }
  const second = queue(1)
  await until(() => tasks(dir, 'queued').length === 1)
  const third = queue(2)
  await until(() => tasks(dir, 'queued').length === 2)
  await sleep(300)
  expect(order).toEqual([])
  await first.release()
  await Promise.all([second, third])
  expect(order).toEqual([1, 2])
})

test('bound to a worker that was started after, it ends when all its processes are dead', async ({ dir, declare, command }) => {
  const [wrapper, worker] = [command('sleep', '600'), command('sleep', '600')]
  const intent = await declare('a', 'queue.md', { pid: wrapper.pid })
  await intent.bind(worker.pid)
  expect(listIntents({ dir })[0]!.pids).toEqual([wrapper.pid, worker.pid])
  await killed(wrapper)
  expect((await refusal(declare('b', 'queue.md'))).code).toBe('ELOCKED')
  await killed(worker)
  expect(listIntents({ dir })).toMatchObject([{ task: 'a', state: 'dead' }])
  await declare('b', 'queue.md')
  expect(eventsOf(dir, 'recovered')).toMatchObject([{ by: 'b', against: 'a', why: 'dead' }])
  expect(await intent.release()).toBe(false)
  await expect(intent.renew()).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
})

test('its TTL ends it, and renewing holds it', async ({ dir, declare }) => {
  const short = await declare('short', 'queue.md', { ttl: 200 })
  await until(() => tasks(dir, 'expired').length === 1)
  const next = await declare('next', 'queue.md', { ttl: '1m' })
  await expect(short.renew()).rejects.toMatchObject({ code: 'ENOTACQUIRED', message: expect.stringContaining('"short"') })
  const before = next.expiresAt
  await sleep(20)
  await next.renew()
  expect(next.expiresAt > before).toBe(true)
  expect((await renewWrites('next', next.token, { dir })) > before).toBe(true)
  expect(eventsOf(dir, 'recovered')).toMatchObject([{ against: 'short', why: 'expired' }])
})

test('a recovery is told once, also by somebody who is refused for another reason', async ({ dir, declare }) => {
  await declare('short', 'a.md', { ttl: 100 })
  await declare('long', 'b.md')
  await until(() => tasks(dir, 'expired').length === 1)
  for (let n = 0; n < 3; n++) await refusal(declare('next', ['a.md', 'b.md']))
  expect(eventsOf(dir, 'recovered')).toHaveLength(1)
  expect(listIntents({ dir }).map(({ task }) => task)).toEqual(['long'])
})

// ---- the queue ----

test('in the queue, first come is first served; a newcomer does not overtake, a task beside them does not wait', async ({ dir, declare }) => {
  const first = await declare('first', 'memory')
  const order: string[] = []
  const waiting: Promise<void>[] = []
  for (const [task, writes] of [['second', ['memory/a.md', 'memory/b.md']], ['third', ['memory/b.md', 'c.md']], ['fourth', ['c.md']]] as const) {
    waiting.push(declare(task, [...writes], { policy: 'queue' }).then(async (intent) => {
      order.push(task)
      await intent.release()
    }))
    await until(() => tasks(dir, 'queued').includes(task))
  }
  // In the way are also those who wait.
  expect((await refusal(declare('newcomer', 'c.md'))).conflicts.map(({ task }) => task)).toEqual(['third', 'fourth'])
  await (await declare('beside', 'd.md', { policy: 'queue' })).release()
  expect(order).toEqual([])
  await first.release()
  await Promise.all(waiting)
  expect(order).toEqual(['second', 'third', 'fourth'])
  expect(listIntents({ dir })).toEqual([])
  expect(eventsOf(dir, 'queued').map(({ by, against }) => `${by} ${against}`)).toEqual(['second first', 'third first', 'third second', 'fourth third'])
})

test('a waiting task whose process is killed leaves the queue, and who follows a killed one says so', async ({ dir, declare, job }) => {
  const [holder, waiter] = await Promise.all([job(), job()])
  await holder.ask(`declareWrites({ task: 'holder', writes: ['queue.md'], pid: process.pid }).then(() => 0)`)
  const waits = waiter.ask(`declareWrites({ task: 'waiter', writes: ['queue.md'], policy: 'queue' })`).catch(() => {})
  await until(() => tasks(dir, 'queued').length === 1)
  const last = declare('last', 'queue.md', { policy: 'queue' })
  await until(() => tasks(dir, 'queued').length === 2)
  await waiter.kill()
  await waits
  expect(tasks(dir, 'dead')).toEqual(['waiter'])
  await holder.kill()
  await (await last).release()
  expect(listIntents({ dir })).toEqual([])
  expect(eventsOf(dir, 'recovered').map(({ by, against, why }) => `${by} ${against} ${why}`).sort()).toEqual(['last holder dead', 'last waiter dead'])
})

test('the wait ends with ELOCKED and what is in the way, and leaves the queue', async ({ dir, declare }) => {
  await declare('first', 'queue.md')
  for (const wait of [0, 150]) {
    const refused = await refusal(declare('second', 'queue.md', { policy: 'queue', wait }))
    expect(refused).toMatchObject({ code: 'ELOCKED', conflicts: [{ task: 'first', path: 'queue.md' }] })
    expect(listIntents({ dir }).map(({ task }) => task)).toEqual(['first'])
  }
})

test('an aborted wait rejects with the signal’s reason, and leaves the queue', async ({ dir, declare }) => {
  await declare('first', 'queue.md')
  const aborter = new AbortController()
  const second = refusal(declare('second', 'queue.md', { policy: 'queue', signal: aborter.signal }))
  await until(() => tasks(dir, 'queued').length === 1)
  aborter.abort(new Error('never mind'))
  expect((await second).message).toBe('never mind')
  expect(listIntents({ dir }).map(({ task }) => task)).toEqual(['first'])
  expect((await refusal(declare('third', 'free.md', { signal: AbortSignal.abort(new Error('before')) }))).message).toBe('before')
})

test('who is withdrawn while it waits is told', async ({ dir, declare }) => {
  await declare('first', 'queue.md')
  const second = refusal(declare('second', 'queue.md', { policy: 'queue' }))
  await until(() => tasks(dir, 'queued').length === 1)
  const file = join(dir, '.lockpact/intents.json')
  const document = JSON.parse(fs.readFileSync(file, 'utf8'))
  fs.writeFileSync(file, JSON.stringify({ ...document, intents: document.intents.slice(0, 1) }))
  expect(await second).toMatchObject({ code: 'ENOTACQUIRED', message: expect.stringContaining('"second" is not in the queue any more') })
})

test('a lock in the way is waited for, too', async ({ dir, declare, job }) => {
  const holder = await job({ dist: pathToFileURL(join(projectFolder, 'dist/index.js')).href })
  await holder.ask(`(async () => { globalThis.lock = await acquireLock('queue.md', { owner: 'holder' }) })()`)
  const waiting = declare('second', 'queue.md', { policy: 'queue' })
  await until(() => tasks(dir, 'queued').length === 1)
  expect(eventsOf(dir, 'queued')).toMatchObject([{ by: 'second', against: 'holder', why: 'locked' }])
  await holder.ask('lock.release()')
  await (await waiting).release()
})

test('a worker that died while its task waited is said to be dead, and the task leaves the queue', async ({ dir, declare, command }) => {
  const worker = command('sleep', '600')
  const first = await declare('first', 'queue.md')
  const second = refusal(declare('second', 'queue.md', { policy: 'queue', pid: worker.pid }))
  await until(() => tasks(dir, 'queued').length === 1)
  await killed(worker)
  await first.release()
  expect(await second).toMatchObject({ code: 'EINVAL', message: expect.stringContaining('living process') })
  expect(listIntents({ dir })).toEqual([])
})

test('who would wait for itself is refused at once, round any number of corners', async ({ dir, declare }) => {
  const [a, b, c] = [await declare('a', 'a.md'), await declare('b', 'b.md'), await declare('c', 'c.md')]
  const waiting = [declare('a', 'b.md', { policy: 'queue' }), declare('b', 'c.md', { policy: 'queue' })]
  await until(() => tasks(dir, 'queued').length === 2)
  const refused = await refusal(declare('c', ['d.md', 'a.md'], { policy: 'queue' }))
  expect(refused).toMatchObject({ code: 'ELOCKED', message: expect.stringContaining('declare both at once'), conflicts: [{ task: 'a' }] })
  // Who has nothing that they wait for may wait.
  const beside = declare('d', 'a.md', { policy: 'queue' })
  await until(() => tasks(dir, 'queued').length === 3)
  await c.release()
  await (await waiting[1]!).release()
  await b.release()
  await (await waiting[0]!).release()
  await a.release()
  await (await beside).release()
  expect(listIntents({ dir })).toEqual([])
})

test('who waits keeps its place: it is renewed in time', async ({ dir, declare, job }) => {
  const first = await declare('first', 'queue.md')
  const waiter = await job()
  const second = waiter.ask(`declareWrites({ task: 'waiter', writes: ['queue.md'], policy: 'queue' })`)
  await until(() => tasks(dir, 'queued').length === 1)
  const place = () => listIntents({ dir })[1]!.expiresAt
  const before = place()
  await waiter.ask(`(() => { const now = performance.now.bind(performance); performance.now = () => now() + 30_000 })()`)
  await until(() => place() > before)
  await first.release()
  expect(await second).toMatchObject({ task: 'waiter' })
})

test('a wait of more than a second is told, by each path', async ({ dir, declare }) => {
  const first = await declare('first', 'memory')
  const second = declare('second', ['memory/a.md', 'memory/b.md'], { policy: 'queue' })
  await sleep(1_200)
  await first.release()
  await second
  const waited = { type: 'waited', by: 'second', against: 'first', ms: expect.any(Number) }
  expect(eventsOf(dir, 'waited', 'conflict')).toMatchObject([{ ...waited, what: 'memory/a.md' }, { ...waited, what: 'memory/b.md' }])
})

test('who slept in the queue for longer than a place is good for goes back to its end', async ({ dir, declare, job }) => {
  const first = await declare('first', 'queue.md')
  const sleeper = await job()
  const second = sleeper.ask(`declareWrites({ task: 'sleeper', writes: ['queue.md'], policy: 'queue' })`)
  await until(() => tasks(dir, 'queued').length === 1)
  // Both its clocks go on while it is away, and somebody has cleared its place.
  await sleeper.ask(`(() => { for (const [clock, name] of [[Date, 'now'], [performance, 'now']]) { const real = clock[name].bind(clock); clock[name] = () => real() + 61_000 } })()`)
  const file = join(dir, '.lockpact/intents.json')
  fs.writeFileSync(file, JSON.stringify({ v: 1, rev: 1, intents: JSON.parse(fs.readFileSync(file, 'utf8')).intents.slice(0, 1) }))
  await until(() => listIntents({ dir }).length === 2)
  await first.release()
  expect(await second).toMatchObject({ task: 'sleeper' })
})

// ---- warn ----

test('with warn both sides know: callback and event on the one, at the next renewal the other', async ({ dir, declare }) => {
  const told: Record<string, Conflict[][]> = { first: [], second: [] }
  const first = await declare('first', 'memory', { policy: 'warn', owner: 'agent 1', onConflict: (conflicts) => told['first']!.push(conflicts) })
  expect(first.overlaps).toEqual([])
  const second = await declare('second', 'memory/queue.md', { policy: 'warn', owner: 'agent 2', onConflict: (conflicts) => told['second']!.push(conflicts) })
  expect(second.overlaps).toMatchObject([{ path: 'memory', task: 'first', owner: 'agent 1' }])
  expect(told['second']).toEqual([second.overlaps])
  expect(told['first']).toEqual([])
  expect(listIntents({ dir }).map(({ overlaps }) => overlaps.map(({ task }) => task))).toEqual([['second'], ['first']])
  await first.renew()
  expect(told['first']).toMatchObject([[{ path: 'memory/queue.md', task: 'second', owner: 'agent 2' }]])
  expect(first.overlaps).toEqual(told['first']![0])
  await first.renew()
  expect(told['first']).toHaveLength(1)
  expect(eventsOf(dir, 'warned').map(({ by, against, what }) => `${by} ${against} ${what}`)).toEqual(['second first memory', 'first second memory/queue.md'])
})

test('what a listener throws costs nobody his token', async ({ dir, declare }) => {
  await declare('first', 'queue.md')
  const angry = { onConflict: () => { throw new Error('a listener’s own fault') } }
  const warned = await declare('warned', 'queue.md', { policy: 'warn', ...angry })
  expect(await warned.release()).toBe(true)
  expect(await refusal(declare('refused', 'queue.md', angry))).toMatchObject({ code: 'ELOCKED', conflicts: [{ task: 'first' }] })
  expect(await refusal(declare('queued', 'queue.md', { policy: 'queue', wait: 0, ...angry }))).toMatchObject({ code: 'ELOCKED' })
  expect(listIntents({ dir }).map(({ task }) => task)).toEqual(['first'])
})

// ---- its end ----

test('another process lists, renews and withdraws by token, also when the first has ended; the signal aborts when withdrawn', async ({ dir, declare, job }) => {
  const first = await job()
  const { token } = await first.ask(`declareWrites({ task: 'survivor', writes: ['queue.md'] })`)
  await first.kill()
  const mine = await declare('mine', 'mine.md')
  const { signal } = mine
  const second = await job()
  expect(await second.ask('listIntents()')).toMatchObject([{ task: 'survivor', writes: ['queue.md'], state: 'active' }, { task: 'mine' }])
  expect(await second.ask(`renewWrites('survivor', '${token}')`)).toEqual(expect.any(String))
  await second.ask(`withdrawWrites('survivor', '${token}')`)
  await expect(second.ask(`withdrawWrites('survivor', '${token}')`)).rejects.toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED', message: expect.stringContaining('"survivor"') })
  await second.ask(`withdrawWrites('mine', '${mine.token}')`)
  await until(() => signal.aborted)
  expect(signal.reason).toMatchObject({ code: 'ENOTACQUIRED' })
  expect(await mine.release()).toBe(false)
  expect(eventsOf(dir, 'lost')).toMatchObject([{ by: 'mine', why: 'withdrawn' }])
})

test('the signal aborts when the time is over, and not when it was released', async ({ dir, declare }) => {
  const [short, released] = [await declare('short', 'a.md', { ttl: 200 }), await declare('released', 'b.md')]
  const [over, not] = [short.signal, released.signal]
  await released.release()
  await until(() => over.aborted)
  await sleep(1_100)
  expect(not.aborted).toBe(false)
  expect(eventsOf(dir, 'lost')).toMatchObject([{ by: 'short', why: 'expired' }])
})

test('what was had for longer than a second is told', async ({ dir, declare }) => {
  const long = await declare('long', 'a.md')
  await (await declare('short', 'b.md')).release()
  await sleep(1_100)
  await long.release()
  expect(eventsOf(dir, 'held')).toMatchObject([{ by: 'long', what: 'a.md', ms: expect.any(Number) }])
})

// ---- the workspace's own settings; the document ----

test('the policy of config.json stands where none is given; a damaged one is said', async ({ dir, declare }) => {
  const config = join(dir, '.lockpact/config.json')
  await declare('first', 'queue.md')
  fs.writeFileSync(config, '{ "policy": "warn" }')
  expect((await declare('second', 'queue.md')).overlaps).toHaveLength(1)
  expect((await refusal(declare('third', 'queue.md', { policy: 'refuse' }))).code).toBe('ELOCKED')
  for (const text of ['{ "policy": "wran" }', '{ "policy": 1 }', '{', '', 'null', '[]', '"warn"']) {
    fs.writeFileSync(config, text)
    const refused = await refusal(declare('fourth', 'free.md'))
    expect(refused, text).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('config.json') })
    expect(fs.readFileSync(config, 'utf8')).toBe(text)
  }
})

test('a damaged registry is moved aside byte for byte, and who had declared something is told by its signal', async ({ dir, declare }) => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const file = join(dir, '.lockpact/intents.json')
  const lost = await declare('lost', 'queue.md', { policy: 'warn' })
  const { signal } = lost
  const whole = JSON.parse(fs.readFileSync(file, 'utf8'))
  const broken = [['task', 1], ['writes', 'queue.md'], ['writes', [1]], ['queued', false], ['worker', [null]], ['overlaps', {}], ['overlaps', [null]], ['processes', [{ pid: -1 }]], ['until', 'soon'], ['ttlMs', 1e300]] as const
  const texts = ['', '{"v":1', '\u0000', '{"v":1,"rev":1,"slots":[]}', ...broken.map(([name, value]) => JSON.stringify({ ...whole, intents: [{ ...whole.intents[0], [name]: value }] }))]
  for (const text of texts) {
    fs.writeFileSync(file, text)
    const next = await declare('next', 'queue.md')
    const aside = fs.readdirSync(join(dir, '.lockpact')).filter((name) => name.includes('corrupt'))
    expect(aside, text).toHaveLength(1)
    expect(fs.readFileSync(join(dir, '.lockpact', aside[0]!), 'utf8'), text).toBe(text)
    fs.rmSync(join(dir, '.lockpact', aside[0]!))
    expect(await next.release()).toBe(true)
  }
  expect(eventsOf(dir, 'damaged')).toHaveLength(texts.length)
  expect(warned).toHaveBeenCalledTimes(texts.length)
  warned.mockRestore()
  await until(() => signal.aborted)
  fs.writeFileSync(file, '{"v":2,"intents":{}}')
  expect(await refusal(declare('newer', 'queue.md'))).toMatchObject({ code: 'EINVAL', message: expect.stringContaining('upgrade') })
  expect(fs.readFileSync(file, 'utf8')).toBe('{"v":2,"intents":{}}')
})

test('a workspace that was named has its own free names, wherever the process works', async ({ folder, dir, node }) => {
  fs.mkdirSync(join(folder, 'elsewhere'))
  const names = ['deploy', '.hidden', 'a/b', 'a*b', 'ü', '%', 'x::y', '..']
  const other = await node({ cwd: '/', dist: workUrl })
  const locks = await node({ cwd: dir })
  for (const name of names.map((each) => `name:${each}`)) {
    const lockFile = await locks.ask(`acquireLock(${JSON.stringify(name)}, { owner: 'holder' }).then(({ lockFile }) => lockFile)`)
    expect(lockFile.startsWith(join(dir, '.lockpact/locks/'))).toBe(true)
    await expect(other.ask(`declareWrites(${JSON.stringify({ task: 't', writes: [name], dir })})`), name).rejects.toMatchObject({ code: 'ELOCKED', message: expect.stringContaining('the lock of "holder"') })
  }
})

// ---- what people pass in ----

const anything = (value: unknown) => value as never
const notTexts = [null, 1, true, {}, [], Symbol('k'), 5n, () => 'k']
const notDurations = [-1, Number.NaN, -Infinity, '', '5', '5 min', '1w', null, true, {}, []]
const shown = (value: unknown) => (Array.isArray(value) ? `[${value.map(String).join()}]` : String(value)).slice(0, 40)

test('a wrong argument is refused with EINVAL, and nothing is declared', async ({ dir }) => {
  fs.writeFileSync(join(dir, 'file.md'), '')
  fs.symlinkSync('/', join(dir, 'way-out'))
  fs.symlinkSync('loop', join(dir, 'loop'))
  const wrong: Record<string, unknown[]> = {
    task: [undefined, '', 'x'.repeat(201), 'a\nb', 'a\0b', ...notTexts],
    writes: [undefined, [], 'queue.md', {}, null, 1, [''], ['ok', ''], ['..'], ['../x'], ['a/../../x'], ['/'], ['/etc/passwd'], ['way-out/x'], ['a\0b'], ['x'.repeat(10_000)], ['x'.repeat(256)], ['name:'], ['name:\ud800'], [`name:${'x'.repeat(10_000)}`], ['::head'], ['queue.md::'], Array.from({ length: 1_001 }, (_, n) => `${n}`), ...notTexts.map((each) => [each])],
    policy: ['', 'wran', 'QUEUE', ...notTexts],
    ttl: [0, Infinity, 1e300, ...notDurations],
    wait: notDurations,
    signal: [1, {}, 'abort'],
    owner: ['x'.repeat(121), ...notTexts],
    pid: [0, -1, 1.5, 2 ** 31, '1', null, {}, 2 ** 22 + 1],
    onConflict: [1, 'f', {}],
    dir: ['', 'a\0b', join(dir, 'not there'), ...notTexts],
    polcy: ['warn'],
  }
  let count = 0
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) {
      const error = await refusal(declareWrites(anything({ task: 't', writes: ['queue.md'], dir, [name]: value })))
      expect(error, `${name}: ${shown(value)}`).toMatchObject({ name: 'LockError', code: 'EINVAL' })
      expect(error.message, `${name}: ${shown(value)}`).not.toMatch(/\n|undefined is not|Cannot read/)
      count++
    }
  }
  for (const [path, code] of [['file.md/x', 'ENOTDIR'], ['loop/x', 'ELOOP'], ['x/'.repeat(5_000), 'ENAMETOOLONG']] as const) {
    expect(await refusal(declareWrites({ task: 't', writes: [path], dir })), shown(path)).toMatchObject({ name: 'LockError', code })
  }
  for (const options of [undefined, null, 1, 'x']) {
    expect(await refusal(declareWrites(anything(options)))).toMatchObject({ name: 'LockError', code: 'EINVAL' })
    if (options === undefined) continue
    expect(await refusal(withdrawWrites('t', 'token', anything(options)))).toMatchObject({ name: 'LockError', code: 'EINVAL' })
    expect(await refusal(renewWrites('t', 'token', anything(options)))).toMatchObject({ name: 'LockError', code: 'EINVAL' })
    expect(() => listIntents(anything(options))).toThrow(expect.objectContaining({ name: 'LockError', code: 'EINVAL' }))
  }
  for (const token of [undefined, '', ...notTexts]) expect(await refusal(withdrawWrites('t', anything(token), { dir }))).toMatchObject({ name: 'LockError', code: 'EINVAL' })
  console.log(`intents: ${count} wrong arguments refused`)
  expect(fs.readdirSync(join(dir, '.lockpact'))).toEqual(['.gitignore'])
})

test('a strange name is a name: of tasks, and of files', async ({ dir, declare }) => {
  for (const task of ['__proto__', 'constructor', ' ', '"', '👩‍👧', '..']) {
    const intent = await declare(task, task === '..' ? 'dots' : task)
    expect(await refusal(declare('other', intent.writes))).toMatchObject({ conflicts: [{ task }] })
    expect(await intent.release()).toBe(true)
  }
  const newline = await declare('t', 'a\nb')
  expect(newline.writes).toEqual(['a\nb'])
  const refused = await refusal(declare('other', 'a\nb'))
  expect(refused.message).not.toContain('\n')
  expect(readEvents(dir).at(-1)).toMatchObject({ type: 'conflict', what: 'a\nb' })
})

test('binding to no process is refused, it does not bind to none', async ({ dir, declare }) => {
  const intent = await declare('t', 'queue.md')
  for (const pid of [undefined, null, 0, -1, '1', {}]) await expect(intent.bind(anything(pid))).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL' })
  expect(listIntents({ dir })).toMatchObject([{ pids: [], state: 'active' }])
})
