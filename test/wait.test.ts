/*
 * Waiting for a lock, being woken, being told that it is lost, and giving it back: what happens between two who want the same.
 * The bounds on times are for a busy machine; what was measured is printed.
 */
import { getEventListeners } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, acquireLockSync, breakLock, inspectLock, type Lock, LockError, type LockEvent, renewLock, type Stamp, sweepLocks, withLock } from 'lockpact'
import { describe, expect, test } from 'vitest'
import { type Child, distUrl, sleep, start, startNode, tempFolder, until } from './support.js'

/** What is measured by the boot clock may be off by this much. */
const GRANULARITY_MS = 50
const tsxUrl = import.meta.resolve('tsx')

/** A process that holds a lock until it is killed. */
async function startHolder(folder: string, options = '{}', name = 'queue.md'): Promise<Child> {
  const child = startNode(`const lock = await acquireLock(${JSON.stringify(name)}, { owner: 'holder', ...${options} }); say('held'); setInterval(() => {}, 1000)
lock.signal.addEventListener('abort', () => say('lost'))
process.stdin.on('data', () => lock.release().then(() => process.exit()))`, { cwd: folder })
  expect(await child.line()).toBe('held')
  return child
}

async function killed(child: Child): Promise<Child> {
  child.process.kill('SIGKILL')
  await child.ended
  return child
}

/** The lock of a process that was killed. */
async function leaveDeadLock(folder: string, name = 'queue.md'): Promise<string> {
  await killed(await startHolder(folder, '{}', name))
  return join(folder, name)
}

/** A detached lock whose TTL has run out. */
async function leaveExpiredLock(folder: string, name = 'queue.md'): Promise<void> {
  await startNode(`await acquireLock(${JSON.stringify(name)}, { detached: true, ttl: 200 })`, { cwd: folder }).ended
  await sleep(300)
}

/** What that process would write into a guard. */
async function guardStampOf(child: Child, itsLock: string): Promise<string> {
  const { processes, boot, pidns, timens, host, acquiredAt } = JSON.parse(readFileSync(itsLock, 'utf8')) as Stamp
  expect(processes?.[0]?.pid).toBe(child.pid)
  return `${JSON.stringify({ v: 1, id: '0123456789abcdef', processes, boot, pidns, timens, host, acquiredAt })}\n`
}

/** A suspended process, and the text of its guards. */
async function startSuspended(): Promise<{ child: Child; stamp: string }> {
  const folder = tempFolder()
  const child = await startHolder(folder, '{ ttl: Infinity }', 'its.md')
  const stamp = await guardStampOf(child, join(folder, 'its.md.lock'))
  child.process.kill('SIGSTOP')
  return { child, stamp }
}

async function stampOfTheDead(): Promise<string> {
  const { child, stamp } = await startSuspended()
  await killed(child)
  return stamp
}

/** What an attempt is rejected with, and after how many milliseconds: much of it happens before there is a promise. */
async function rejection(attempt: () => Promise<unknown>): Promise<{ error: LockError; ms: number }> {
  const begin = performance.now()
  const error = await attempt().then((value) => expect.fail(`not rejected, but resolved with ${String(value)}`), (reason: unknown) => reason)
  return { error: error as LockError, ms: performance.now() - begin }
}

const median = (numbers: number[]) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!
const now = () => Number(process.hrtime.bigint()) / 1e6 // one clock for all processes
const NOW = 'const now = () => Number(process.hrtime.bigint()) / 1e6\n'

describe('waiting', () => {
  test('ends at its deadline, with an error that says how long it waited and when to ask again', async () => {
    const file = join(tempFolder(), 'queue.md')
    const lock = await acquireLock(file, { owner: 'first' })
    const { error, ms } = await rejection(() => acquireLock(file, { wait: '300ms' }))
    expect(error).toMatchObject({ code: 'ELOCKED', file, verdict: 'alive', holder: { owner: 'first' } })
    expect(error.message).toMatch(/waited (?:[2-9]\d\d|\d{4}) ms/)
    expect(error.retryAfterMs).toBeGreaterThan(30_000)
    expect(error.retryAfterMs).toBeLessThanOrEqual(60_000)
    expect(ms).toBeGreaterThanOrEqual(300 - GRANULARITY_MS)
    expect(ms).toBeLessThan(5_000)

    expect(() => acquireLockSync(file, { wait: 200 })).toThrow(/waited [1-9]\d{2,3} ms/)
    const atOnce = await rejection(() => acquireLock(file))
    expect(atOnce.error.message).not.toContain('waited')
    expect(atOnce.ms).toBeLessThan(2_000)
    await lock.release()
  })

  test('with Infinity lasts until the lock is released', async () => {
    const folder = tempFolder()
    const child = await startHolder(folder)
    const waiting = acquireLock(join(folder, 'queue.md'), { wait: Infinity })
    expect(await Promise.race([waiting, sleep(700).then(() => 'still waiting')])).toBe('still waiting')
    child.process.stdin!.write('release\n')
    const lock = await waiting
    expect(lock.recovered).toBeUndefined()
    expect(await lock.release()).toBe(true)
  })

  test('is refused with the reason of a signal that was aborted before, and nothing is created', async () => {
    const folder = tempFolder()
    const reason = new Error('not today')
    const file = join(folder, 'sub/queue.md')
    expect((await rejection(() => acquireLock(file, { signal: AbortSignal.abort(reason) }))).error).toBe(reason)
    expect(() => acquireLockSync(file, { signal: AbortSignal.abort(reason) })).toThrow(reason)
    expect(readdirSync(folder)).toEqual([])
  })

  test('stops promptly when its signal is aborted, with the reason, and nothing is left', async () => {
    const folder = tempFolder()
    const file = join(folder, 'queue.md')
    const lock = await acquireLock(file)
    for (const waited of [0, 20, 300]) {
      const aborter = new AbortController()
      const reason = new Error('enough')
      const waiting = acquireLock(file, { wait: Infinity, signal: aborter.signal })
      setTimeout(() => aborter.abort(reason), waited)
      const { error, ms } = await rejection(() => waiting)
      expect(error).toBe(reason)
      expect(ms).toBeLessThan(waited + 3_000)
      expect(getEventListeners(aborter.signal, 'abort')).toEqual([])
    }
    // Long after the wait, the signal is of no importance.
    const aborter = new AbortController()
    await lock.release()
    const second = await acquireLock(file, { signal: aborter.signal })
    aborter.abort()
    expect(second.held).toBe(true)
    expect(second.signal.aborted).toBe(false)
    await second.release()
    expect(readdirSync(folder)).toEqual([])
  })

  test('is woken by the release of another process', async () => {
    const folder = tempFolder()
    const file = join(folder, 'queue.md')
    const holder = startNode(`${NOW}for await (const _ of process.stdin.setEncoding('utf8')) {
  const lock = await acquireLock('queue.md', { wait: Infinity }); say('held')
  await new Promise((resolve) => setTimeout(resolve, 60)); const at = now(); await lock.release(); say(String(at))
}`, { cwd: folder })
    const handOvers: number[] = []
    for (let round = 0; round < 20; round++) {
      holder.process.stdin!.write('go\n')
      expect(await holder.line()).toBe('held')
      const lock = await acquireLock(file, { wait: '10s' })
      const at = now()
      handOvers.push(at - Number(await holder.line()))
      await lock.release()
    }
    console.log(`hand-over to a waiting process: median ${median(handOvers).toFixed(2)} ms, longest ${Math.max(...handOvers).toFixed(2)} ms of ${handOvers.length}`)
    expect(median(handOvers)).toBeLessThan(500)
  })

  test('is woken by the folder and by its signal, not by the clock', async () => {
    const folder = tempFolder()
    const lock = await acquireLock(join(folder, 'queue.md'))
    const other = await acquireLock(join(folder, 'other.md'))
    // Here every timer is late by far, so polling alone would not end within this test.
    const waiter = startNode(`${NOW}const later = setTimeout
globalThis.setTimeout = (callback, ms, ...rest) => later(callback, ms * 1000, ...rest)
const aborter = new AbortController()
process.stdin.once('data', () => aborter.abort('enough'))
acquireLock('other.md', { wait: Infinity, signal: aborter.signal }).catch((reason) => say(reason + ' ' + now()))
acquireLock('queue.md', { wait: Infinity }).then(() => say('released ' + now())); say('waiting')`, { cwd: folder })
    expect(await waiter.line()).toBe('waiting')
    await sleep(400)
    for (const [what, act] of [['enough', () => waiter.process.stdin!.write('abort\n')], ['released', () => lock.release()]] as const) {
      const began = now()
      await act()
      const [said, at] = (await waiter.line()).split(' ')
      expect(said).toBe(what)
      expect(Number(at) - began).toBeLessThan(10_000)
    }
    await other.release()
  })

  test('notices that the holder was killed', async () => {
    const folder = tempFolder()
    const delays: number[] = []
    for (let round = 0; round < 7; round++) {
      const child = await startHolder(folder)
      const waiting = acquireLock(join(folder, 'queue.md'), { wait: '20s' })
      await sleep(100)
      const at = now()
      child.process.kill('SIGKILL')
      const lock = await waiting
      delays.push(now() - at)
      expect(lock.recovered?.processes?.[0]?.pid).toBe(child.pid)
      await lock.release()
    }
    console.log(`a waiter gets the lock of a killed holder: median ${median(delays).toFixed(0)} ms, longest ${Math.max(...delays).toFixed(0)} ms of ${delays.length}`)
    expect(median(delays)).toBeLessThan(1_000)
  })

  test.each([
    ['throws', `throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'watch' })`],
    ['fails later', `const watcher = new EventEmitter(); watcher.close = () => {}; setTimeout(() => watcher.emit('error', new Error('EMFILE')), 20); return watcher`],
    ['says nothing', `return Object.assign(new EventEmitter(), { close() {} })`],
  ])('works where fs.watch %s', async (_, watch) => {
    const folder = tempFolder()
    const lock = await acquireLock(join(folder, 'queue.md'))
    const waiter = startNode(`import { EventEmitter } from 'node:events'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
${NOW}
let watched = 0
fs.watch = () => { watched++; ${watch} }
syncBuiltinESMExports()
say('waiting'); const lock = await acquireLock('queue.md', { wait: Infinity }); say(String(now())); say(String(watched)); await lock.release()`, { cwd: folder })
    expect(await waiter.line()).toBe('waiting')
    await sleep(300)
    const released = now()
    await lock.release()
    expect(Number(await waiter.line()) - released).toBeLessThan(2_000)
    expect(Number(await waiter.line())).toBeGreaterThan(0) // it has tried to watch
    expect(await waiter.ended).toEqual({ code: 0, signal: null })
    expect(readdirSync(folder)).toEqual([])
  })

  /** In the critical section: `inside` is created exclusively, so two at once fail; each leaves a line. */
  const WORK = `import { appendFileSync, unlinkSync, writeFileSync } from 'node:fs'
const work = async (name) => {
  writeFileSync('inside', '', { flag: 'wx' })
  await new Promise((resolve) => setTimeout(resolve, 3))
  appendFileSync('done', name + '\\n')
  unlinkSync('inside')
}
`
  test.each([
    ['processes', 20, `await withLock('queue.md', { wait: '50s' }, () => work('0'))`, 1],
    ['tasks of two processes', 2, `await Promise.all(Array.from({ length: 10 }, (_, i) => withLock('queue.md', { wait: '50s' }, () => work(String(i)))))`, 10],
    ['synchronous processes', 6, `const lock = acquireLockSync('queue.md', { wait: '50s' }); await work('0'); lock.release()`, 1],
  ])('by many %s: each gets it once, and never two at once', async (_, processes, body, tasks) => {
    const folder = tempFolder()
    const first = await acquireLock(join(folder, 'queue.md'))
    const children = Array.from({ length: processes }, () => startNode(`${WORK}${body}`, { cwd: folder }))
    await sleep(500)
    expect(existsSync(join(folder, 'done'))).toBe(false)
    await first.release()
    expect(await Promise.all(children.map(({ ended }) => ended))).toEqual(children.map(() => ({ code: 0, signal: null })))
    const done = readFileSync(join(folder, 'done'), 'utf8').trim().split('\n')
    expect(done.sort()).toEqual(Array.from({ length: tasks }, (_, i) => Array.from({ length: processes }, () => String(i))).flat())
    expect(readdirSync(folder)).toEqual(['done'])
  })

  test('by tasks of one process excludes them from each other', async () => {
    const file = join(tempFolder(), 'queue.md')
    let inside = 0
    const order: number[] = []
    await Promise.all(Array.from({ length: 8 }, (_, i) => withLock(file, { wait: '20s' }, async () => {
      expect(++inside).toBe(1)
      await sleep(5)
      order.push(i)
      inside--
    })))
    expect(order.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    await withLock(file, async () => {
      expect((await rejection(() => acquireLock(file))).error).toMatchObject({ code: 'ELOCKED', holder: { processes: [{ pid: process.pid }] } })
    })
  })

  test('synchronously sleeps instead of spinning, and renews what the process holds otherwise', async () => {
    const folder = tempFolder()
    const mine = await acquireLock(join(folder, 'queue.md'))
    const child = startNode(`const own = await acquireLock('own.md', { ttl: 600 }); say('holds')
const began = performance.now(), cpu = process.cpuUsage()
try { acquireLockSync('queue.md', { wait: 2000 }) } catch (error) { say(error.code) }
const { user, system } = process.cpuUsage(cpu)
say(JSON.stringify({ held: own.held, wall: performance.now() - began, cpu: (user + system) / 1000 }))
say(String(await own.release()))`, { cwd: folder })
    expect(await child.line()).toBe('holds')
    await sleep(1_400)
    expect(child.out()).toBe('holds\n')
    expect(inspectLock(join(folder, 'own.md'))).toMatchObject({ state: 'held', verdict: 'alive' })
    expect(await child.line()).toBe('ELOCKED')
    const { held, wall, cpu } = JSON.parse(await child.line()) as { held: boolean; wall: number; cpu: number }
    console.log(`acquireLockSync, waiting ${wall.toFixed(0)} ms: ${cpu.toFixed(0)} ms of CPU time`)
    expect(held).toBe(true)
    expect(wall).toBeGreaterThanOrEqual(2_000 - GRANULARITY_MS)
    expect(cpu).toBeLessThan(wall / 3)
    expect(await child.line()).toBe('true')
    await mine.release()
  })

  test('creates folders that are missing', async () => {
    const folder = tempFolder()
    const lock = await acquireLock(join(folder, 'a/b/queue.md'))
    const other = acquireLockSync(join(folder, 'c/d/queue.md'))
    expect(readdirSync(join(folder, 'a/b'))).toEqual(['queue.md.lock'])
    expect(readdirSync(join(folder, 'c/d'))).toEqual(['queue.md.lock'])
    expect(await lock.release()).toBe(true)
    expect(other.release()).toBe(true)
  })

  test('does not touch the options it was given', async () => {
    const file = join(tempFolder(), 'queue.md')
    const options = Object.freeze({ ttl: '5s', wait: '1s', owner: 'me', reason: 'test', renew: true, signal: new AbortController().signal, onEvent: () => {} } as const)
    const before = { ...options }
    await (await acquireLock(file, options)).release()
    acquireLockSync(file, options).release()
    await withLock(file, options, () => {})
    expect(options).toEqual(before)
  })
})

describe('what does not wait for ever: five seconds of watching', () => {
  test('an unstamped guard, an unstamped lock, and the lock of a suspended process', async () => {
    const guarded = await leaveDeadLock(tempFolder())
    writeFileSync(`${guarded}.lock.guard`, '')
    const unstamped = join(tempFolder(), 'queue.md')
    writeFileSync(`${unstamped}.lock`, '')
    const silentFolder = tempFolder()
    const holder = await startHolder(silentFolder, '{ ttl: 300 }')
    const silent = join(silentFolder, 'queue.md')
    holder.process.kill('SIGSTOP')
    await sleep(400)

    // Who does not wait is refused.
    expect((await rejection(() => acquireLock(guarded))).error).toMatchObject({ code: 'ELOCKED', verdict: 'guarded' })
    expect((await rejection(() => acquireLock(unstamped))).error).toMatchObject({ code: 'ELOCKED', verdict: 'unstamped' })
    expect((await rejection(() => acquireLock(silent))).error).toMatchObject({ code: 'ELOCKED', verdict: 'silent' })
    expect(inspectLock(silent)).toMatchObject({ state: 'held', verdict: 'silent' })

    const begin = performance.now()
    const get = async (file: string): Promise<[Lock, number]> => [await acquireLock(file, { wait: '20s' }), performance.now() - begin]
    const got = await Promise.all([guarded, unstamped, silent].map(get))
    for (const [, ms] of got) {
      expect(ms).toBeGreaterThan(4_900)
      expect(ms).toBeLessThan(9_000)
    }
    expect(got.map(([lock]) => lock.recovered?.owner)).toEqual(['holder', undefined, 'holder'])

    // Awake again, the suspended holder is told, and does not disturb its successor.
    holder.process.kill('SIGCONT')
    expect(await holder.line()).toBe('lost')
    for (const [lock] of got) {
      expect(lock.held).toBe(true)
      expect(await lock.release()).toBe(true)
    }
    expect(readdirSync(silentFolder)).toEqual([])
  })

  test('an unstamped guard that is older than ten minutes is removed at once', async () => {
    const folder = tempFolder()
    const file = await leaveDeadLock(folder)
    const old = Date.now() / 1000 - 11 * 60
    writeFileSync(`${file}.lock.guard`, '')
    utimesSync(`${file}.lock.guard`, old, old)
    const lock = await acquireLock(file)
    await lock.release()
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('a guard', () => {
  test('of a suspended process ends an acquisition at its deadline, with an error that names the process', async () => {
    const folder = tempFolder()
    const file = await leaveDeadLock(folder)
    const { child, stamp } = await startSuspended()
    writeFileSync(`${file}.lock.guard`, stamp)
    for (const wait of [0, 500]) {
      const { error, ms } = await rejection(() => acquireLock(file, { wait }))
      expect(error).toMatchObject({ code: 'ELOCKED', verdict: 'guarded', holder: { processes: [{ pid: child.pid }] } })
      expect(error.message).toContain(`pid ${child.pid}`)
      expect(error.message).toContain(`${file}.lock.guard`)
      expect(ms).toBeGreaterThanOrEqual(wait - GRANULARITY_MS)
      expect(ms).toBeLessThan(wait + 1_500)
    }
    expect(() => acquireLockSync(file, { wait: 200 })).toThrow(`pid ${child.pid}`)
    expect(readdirSync(folder)).toEqual(['queue.md.lock', 'queue.md.lock.guard'])

    await killed(child)
    await (await acquireLock(file)).release()
    expect(readdirSync(folder)).toEqual([])
  })

  test('of a suspended process makes whoever removes a lock give up after some seconds; release goes on in the background', async () => {
    const folder = tempFolder()
    const { child: suspended, stamp } = await startSuspended()
    const at = (name: string) => join(folder, `${name}.md`)
    const block = (name: string) => writeFileSync(`${at(name)}.lock.guard`, stamp)
    const lock = await acquireLock(at('one'))
    const second = await acquireLock(at('two'))
    await acquireLock(at('broken'), { detached: true })
    for (const name of ['one', 'two', 'broken']) block(name)
    const failure = new Error('first')
    const sync = startNode(`import { writeFileSync } from 'node:fs'
const lock = acquireLockSync('sync.md'); writeFileSync('sync.md.lock.guard', process.env.STAMP)
try { lock.release() } catch ({ code, message }) { say(code + message) }
say(String(lock.held)); say(String(process.hrtime.bigint()))`, { cwd: folder, env: { STAMP: stamp } })

    const working = withLock(at('with'), () => (block('with'), 'result'))
    const rejections = await Promise.all([
      rejection(() => lock.release()),
      rejection(() => second.release()),
      rejection(() => breakLock(at('broken'), { reason: 'test' })),
      rejection(() => withLock(at('thrown'), () => { block('thrown'); throw failure })),
    ])
    expect(rejections.pop()!.error).toBe(failure) // and not that of the release which followed
    expect(await working).toBe('result')
    for (const { error, ms } of rejections) {
      expect(error.code).toBe('ELOCKED')
      expect(error.message).toContain(`pid ${suspended.pid}`)
      expect(ms).toBeGreaterThan(1_900)
      expect(ms).toBeLessThan(9_000)
    }
    expect([lock.held, second.held, await lock.release()]).toEqual([false, false, false])

    // It goes on in the background, but does not keep a process from ending.
    expect(await sync.line()).toMatch(new RegExp(`^ELOCKED.*pid ${suspended.pid}`))
    expect(await sync.line()).toBe('false')
    expect(await sync.ended).toEqual({ code: 0, signal: null })
    expect(now() - Number(await sync.line()) / 1e6).toBeLessThan(3_000)

    // Whoever gave it up does not stand in the own way.
    expect(readdirSync(folder)).toHaveLength(12)
    rmSync(`${lock.lockFile}.guard`)
    const again = await acquireLock(lock.file)
    await killed(suspended)
    await until(() => readdirSync(folder).join() === 'broken.md.lock,broken.md.lock.guard,one.md.lock,sync.md.lock,sync.md.lock.guard', 5_000)
    await sleep(200)
    expect(again.held).toBe(true)
    expect(await again.release()).toBe(true)
    // What a process that has ended, or a person, gave up is for the next who comes.
    await (await acquireLock(at('sync'))).release()
    await breakLock(at('broken'), { reason: 'test' })
    expect(readdirSync(folder)).toEqual([])
  })

  test('of a dead process is removed at once, by who acquires, releases or breaks', async () => {
    const stamp = await stampOfTheDead()
    const folder = tempFolder()
    const file = await leaveDeadLock(folder)
    const guards = () => writeFileSync(`${file}.lock.guard`, stamp)
    guards()
    const began = performance.now()
    const lock = await acquireLock(file)
    guards()
    expect(await lock.release()).toBe(true)
    expect(readdirSync(folder)).toEqual([])
    await acquireLock(file, { detached: true })
    guards()
    expect(await breakLock(file, { reason: 'test' })).toMatchObject({ state: 'held' })
    expect(readdirSync(folder)).toEqual([])
    expect(performance.now() - began).toBeLessThan(2_000)
  })

  test('of a guard, all left by dead processes, is cleaned with them', async () => {
    const stamp = await stampOfTheDead()
    const folder = tempFolder()
    const file = await leaveDeadLock(folder)
    for (const guards of ['.guard', '.guard.guard']) writeFileSync(`${file}.lock${guards}`, stamp)
    const lock = await acquireLock(file)
    expect(lock.recovered?.owner).toBe('holder')
    for (const guards of ['.guard', '.guard.guard']) writeFileSync(`${file}.lock${guards}`, stamp)
    expect(await lock.release()).toBe(true)
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('withLock', () => {
  test('awaits the function, gives its value, and releases', async () => {
    const folder = tempFolder()
    const file = join(folder, 'queue.md')
    const seen: boolean[] = []
    const value = await withLock(file, { owner: 'me' }, async (lock) => {
      seen.push(lock.held, existsSync(lock.lockFile))
      await sleep(50)
      seen.push(lock.held, existsSync(lock.lockFile))
      return 42
    })
    expect(value).toBe(42)
    expect(seen).toEqual([true, true, true, true])
    expect(readdirSync(folder)).toEqual([])
    expect(await withLock(file, () => 'not a promise, no options')).toBe('not a promise, no options')
  })

  test('releases when the function throws or rejects, and the error is the function\'s', async () => {
    const folder = tempFolder()
    const file = join(folder, 'queue.md')
    const failure = new Error('mine')
    expect((await rejection(() => withLock(file, () => { throw failure }))).error).toBe(failure)
    expect((await rejection(() => withLock(file, async () => { await sleep(5); throw failure }))).error).toBe(failure)
    expect(readdirSync(folder)).toEqual([])
  })

  test('does not run the function without the lock', async () => {
    const file = join(tempFolder(), 'queue.md')
    const lock = await acquireLock(file)
    let ran = false
    const run = () => { ran = true }
    expect((await rejection(() => withLock(file, run))).error.code).toBe('ELOCKED')
    expect((await rejection(() => withLock(file, { wait: 100 }, run))).error.code).toBe('ELOCKED')
    expect((await rejection(() => withLock(file, { wait: Infinity, signal: AbortSignal.timeout(100) }, run))).error.name).toBe('TimeoutError')
    expect(ran).toBe(false)
    await lock.release()
    expect((await rejection(() => withLock(file, {}, undefined as never))).error).toMatchObject({ code: 'EINVAL' })
    expect(existsSync(`${file}.lock`)).toBe(false)
  })

  test('is rejected with ECOMPROMISED when the lock was lost meanwhile, though the function returned', async () => {
    const file = join(tempFolder(), 'queue.md')
    const { error } = await rejection(() => withLock(file, (lock) => { rmSync(lock.lockFile) }))
    expect(error).toMatchObject({ code: 'ECOMPROMISED', file })
    let successor: Lock | undefined
    const { error: broken } = await rejection(() => withLock(file, async () => {
      await breakLock(file, { reason: 'test' })
      successor = await acquireLock(file)
    }))
    expect(broken.code).toBe('ECOMPROMISED')
    expect(await successor!.release()).toBe(true)
  })

  test('tells the first error, not the loss that followed', async () => {
    const file = join(tempFolder(), 'queue.md')
    const failure = new Error('first')
    expect((await rejection(() => withLock(file, (lock) => { rmSync(lock.lockFile); throw failure }))).error).toBe(failure)
  })
})

test('using and await using release at the end of the block, also when it throws', async () => {
  const folder = tempFolder()
  writeFileSync(join(folder, 'program.mts'), `import { existsSync } from 'node:fs'
import { acquireLock, acquireLockSync } from ${JSON.stringify(distUrl)}
const show = (when: string) => console.log(when, existsSync('queue.md.lock'))
{
  await using lock = await acquireLock('queue.md')
  show('await using ' + lock.held)
}
show('after')
{
  using lock = acquireLockSync('queue.md')
  show('using ' + lock.held)
}
show('after')
try {
  await using _ = await acquireLock('queue.md')
  throw new Error('thrown')
} catch (error) {
  show((error as Error).message)
}
`)
  const child = start([process.execPath, '--import', tsxUrl, 'program.mts'], { cwd: folder })
  expect(await child.ended).toEqual({ code: 0, signal: null })
  expect(child.out()).toBe('await using true true\nafter false\nusing true true\nafter false\nthrown false\n')
})

describe('onEvent', () => {
  const recorder = () => {
    const events: LockEvent[] = []
    return { events, onEvent: (event: LockEvent) => void events.push(event) }
  }

  test('tells of waiting, acquiring and releasing, in this order', async () => {
    const folder = tempFolder()
    const file = join(folder, 'queue.md')
    const child = await startHolder(folder)
    const { events, onEvent } = recorder()
    setTimeout(() => child.process.stdin!.write('release\n'), 300)
    const lock = await acquireLock(file, { wait: '20s', owner: 'me', onEvent })
    await sleep(100)
    await lock.release()
    await lock.release()
    const common = { file, lockFile: `${file}.lock`, owner: 'me' }
    expect(events).toMatchObject([{ ...common, type: 'waiting', holder: { owner: 'holder' } }, { ...common, type: 'acquired' }, { ...common, type: 'released' }])
    expect(events[1]!.ms).toBeGreaterThanOrEqual(250)
    expect(events[1]!.holder).toBeUndefined()
    expect(events[2]!.ms).toBeGreaterThanOrEqual(100 - GRANULARITY_MS)
    expect(events[2]!.ms).toBeLessThan(5_000)
  })

  test('tells of a refusal, of a recovery and of a loss', async () => {
    const file = await leaveDeadLock(tempFolder())
    const { events, onEvent } = recorder()
    const lock = await acquireLock(file, { onEvent })
    await rejection(() => acquireLock(file, { onEvent }))
    await rejection(() => acquireLock(file, { wait: 100, onEvent }))
    expect(() => acquireLockSync(file, { wait: 100, onEvent })).toThrow(LockError)
    rmSync(lock.lockFile)
    await until(() => !lock.held, 5_000)
    expect(events.map(({ type }) => type)).toEqual(['acquired', 'refused', 'waiting', 'refused', 'waiting', 'refused', 'lost'])
    expect(events[0]!.holder?.owner).toBe('holder')
    expect(events[1]).toMatchObject({ holder: { id: lock.id } })
    expect(events[3]!.ms).toBeGreaterThanOrEqual(100 - GRANULARITY_MS)
  })

  test('drops what its listener throws, in the call and in the timer', async () => {
    const folder = tempFolder()
    const child = startNode(`import { rmSync } from 'node:fs'
const options = { wait: 100, onEvent: ({ type }) => { say(type); throw new Error('listener') } }
const lock = await acquireLock('queue.md', options)
await acquireLock('queue.md', options).catch(({ code }) => say(code))
say(String(await lock.release()))
const lost = acquireLockSync('queue.md', options); rmSync(lost.lockFile)
lost.signal.addEventListener('abort', () => setTimeout(() => process.exit(7), 50)); setInterval(() => {}, 1000)`, { cwd: folder })
    expect(await child.ended).toEqual({ code: 7, signal: null })
    expect(child.out().trim().split('\n')).toEqual(['acquired', 'waiting', 'refused', 'ELOCKED', 'released', 'true', 'acquired', 'lost'])
    expect(child.err()).toBe('')
  })
})

describe('a holder is told that it has lost its lock', () => {
  async function expectTold(lock: Lock): Promise<void> {
    const begin = performance.now()
    const aborted = new Promise<unknown>((resolve) => lock.signal.addEventListener('abort', () => resolve(lock.signal.reason)))
    const reason = await Promise.race([aborted, sleep(5_000).then(() => 'not told')])
    expect(reason).toMatchObject({ code: 'ECOMPROMISED', file: lock.file })
    expect(performance.now() - begin).toBeLessThan(3_000)
    expect(lock.held).toBe(false)
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'ECOMPROMISED' }))
    expect((await rejection(() => lock.renew())).error.code).toBe('ECOMPROMISED')
    expect(await lock.release()).toBe(false)
  }

  test('when another process breaks it, within a second or so; and the breaker\'s lock is left alone', async () => {
    const folder = tempFolder()
    const lock = await acquireLock(join(folder, 'queue.md'), { ttl: '1h' })
    expect([lock.held, lock.signal.aborted]).toEqual([true, false])
    const told = expectTold(lock)
    const breaker = startNode(`await breakLock('queue.md', { reason: 'test' }); await acquireLock('queue.md', { owner: 'breaker', detached: true })`, { cwd: folder })
    await breaker.ended
    await told
    expect(inspectLock(lock.file)).toMatchObject({ state: 'held', stamp: { owner: 'breaker' } })
  })

  test('when its file is removed, replaced, or its folder vanishes', async () => {
    const [removed, replaced, vanished] = [tempFolder(), tempFolder(), tempFolder()]
    const locks = await Promise.all([removed, replaced, vanished].map((folder) => acquireLock(join(folder, 'queue.md'), { ttl: '2s' })))
    const told = Promise.all(locks.map(expectTold))
    rmSync(join(removed, 'queue.md.lock'))
    writeFileSync(join(replaced, 'queue.md.lock'), '{"v":1,"owner":"a shell script"}\n')
    rmSync(vanished, { recursive: true })
    await told
    expect(readFileSync(join(replaced, 'queue.md.lock'), 'utf8')).toContain('a shell script')
  })

  test('by itself when its lease is over, and by the signal when nobody could confirm it for another TTL', async () => {
    const lock = await acquireLock(join(tempFolder(), 'queue.md'), { ttl: 600, renew: false })
    const begin = performance.now()
    await sleep(300)
    expect(lock.held).toBe(true)
    let lastHeld = 0
    for (let at = performance.now(); lock.held; at = performance.now()) {
      lastHeld = at
      await sleep(5)
    }
    expect(lastHeld - begin).toBeLessThanOrEqual(601)
    expect(() => lock.assertHeld()).toThrow(/lease .* is over/)
    expect(lock.signal.aborted).toBe(false)
    await until(() => lock.signal.aborted)
    expect(performance.now() - begin).toBeGreaterThan(1_100)
  })

  test('but not when others renew it by its token, however long its process lives', async () => {
    const folder = tempFolder()
    const locks = await Promise.all(['one.md', 'two.md', 'three.md'].map((name) => acquireLock(join(folder, name), { detached: true, ttl: 800 })))
    const [one, two, three] = locks as [Lock, Lock, Lock]
    const other = startNode(`setInterval(() => renewLock('two.md', process.env.TOKEN), 200); say('renews')`, { cwd: folder, env: { TOKEN: two.token } })
    await other.line()
    for (const end = now() + 2_600; now() < end; await sleep(200)) {
      await renewLock(one.file, one.token)
      await three.renew()
    }
    for (const { file, id } of locks) expect(inspectLock(file)).toMatchObject({ state: 'held', stamp: { id } })
    expect(locks.map(({ signal }) => signal.aborted)).toEqual([false, false, false])
    expect(locks.map(({ held }) => held)).toEqual([true, true, true])
  })

  test('and nothing is ever thrown from a timer', async () => {
    const folder = tempFolder()
    const names = ['removed', 'replaced', 'vanished', 'blocked']
    for (const name of names) mkdirSync(join(folder, name))
    const child = startNode(`const names = ${JSON.stringify(names)}
const locks = await Promise.all(names.map((name) => acquireLock(name + '/queue.md', { ttl: 600 }))); setInterval(() => {}, 1000)
let told = 0
for (const { signal } of locks) signal.addEventListener('abort', () => { if (++told === names.length) setTimeout(() => process.exit(7), 300) })
say('held')`, { cwd: folder })
    expect(await child.line()).toBe('held')
    rmSync(join(folder, 'removed/queue.md.lock'))
    rmSync(join(folder, 'replaced/queue.md.lock'))
    mkdirSync(join(folder, 'replaced/queue.md.lock'))
    for (const name of ['vanished', 'blocked']) rmSync(join(folder, name), { recursive: true })
    writeFileSync(join(folder, 'blocked'), 'a file where the folder was')
    expect(await Promise.race([child.ended, sleep(10_000).then(() => child.out())])).toEqual({ code: 7, signal: null })
    expect(child.err()).toBe('')
  })
})

test('release is safe to call twice, also at once', async () => {
  const folder = tempFolder()
  const file = join(folder, 'queue.md')
  const lock = await acquireLock(file)
  expect([await lock.release(), await lock.release()]).toEqual([true, false])
  const other = await acquireLock(file)
  expect(await lock.release()).toBe(false)
  expect(other.held).toBe(true)
  expect(await Promise.all([other.release(), other.release()])).toEqual([true, false])
  const sync = acquireLockSync(file)
  expect([sync.release(), sync.release()]).toEqual([true, false])
  expect(lock.held || other.held || sync.held).toBe(false)
  expect(lock.signal.aborted).toBe(false) // it was given back, not lost
  expect(readdirSync(folder)).toEqual([])
})

describe('breakLock', () => {
  test('needs a reason', async () => {
    const file = join(tempFolder(), 'queue.md')
    const lock = await acquireLock(file)
    for (const options of [undefined, {}, { reason: '' }, { reason: '  ' }, { reason: 7 }]) {
      expect((await rejection(() => breakLock(file, options as { reason: string }))).error).toMatchObject({ code: 'EINVAL' })
    }
    expect(lock.held).toBe(true)
    expect(existsSync(lock.lockFile)).toBe(true)
    await lock.release()
  })

  test('removes whatever is there, and gives what it was', async () => {
    const folder = tempFolder()
    const file = join(folder, 'queue.md')
    expect(await breakLock(file, { reason: 'test' })).toMatchObject({ state: 'free', file })
    await startHolder(folder)
    expect(await breakLock(file, { reason: 'test' })).toMatchObject({ state: 'held', verdict: 'alive', stamp: { owner: 'holder' } })
    writeFileSync(`${file}.lock`, '4242')
    expect(await breakLock(file, { reason: 'test' })).toMatchObject({ state: 'held', verdict: 'foreign' })
    writeFileSync(`${file}.lock`, '')
    expect(await breakLock(file, { reason: 'test' })).toMatchObject({ state: 'held', verdict: 'unstamped' })
    expect(readdirSync(folder)).toEqual([])
  })
})

test('sweepLocks removes what is stale, keeps what is held or foreign, and tells both', async () => {
  const folder = tempFolder()
  const at = (name: string) => join(folder, name)
  for (const name of ['sub/deep', 'node_modules/x', '.git', 'guards', 'elsewhere']) mkdirSync(at(name), { recursive: true })
  const outside = tempFolder()
  symlinkSync(outside, at('link'))
  const stamp = await stampOfTheDead()
  const dead = ['dead.md.lock', 'sub/deep/dead@part.lock', 'guards/gone.md.lock.guard', 'guards/two.md.lock', 'guards/two.md.lock.guard', 'guards/two.md.lock.guard.guard']
  const notLooked = ['node_modules/x/dead.md.lock', '.git/index.lock', 'link/dead.md.lock', 'elsewhere/dead.lock.md']
  for (const name of [...dead, ...notLooked]) writeFileSync(at(name), stamp)
  writeFileSync(at('Cargo.lock'), '[[package]]\n')
  writeFileSync(at('empty.md.lock'), '')
  const held = await acquireLock(at('sub/held.md'))
  await leaveExpiredLock(folder, 'expired.md')
  await acquireLock(at('leased.md'), { detached: true })
  const all = () => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory()).map((entry) => realpathSync(entry.parentPath) + '/' + entry.name).sort()
  const before = all()

  const kept = { 'Cargo.lock': 'foreign', 'empty.md.lock': 'unstamped', 'leased.md.lock': 'out-of-sight', 'sub/held.md.lock': 'alive' }
  const short = (swept: Awaited<ReturnType<typeof sweepLocks>>, action: string) => swept.filter((each) => each.action === action).map((each) => each.lockFile.slice(folder.length + 1))
  const dry = await sweepLocks(folder, { dryRun: true })
  expect(all()).toEqual(before)
  expect(short(dry, 'would remove').sort()).toEqual([...dead, 'expired.md.lock'].sort())
  expect(short(dry, 'removed')).toEqual([])

  const swept = await sweepLocks(folder)
  expect(Object.fromEntries(swept.filter(({ action }) => action === 'kept').map(({ lockFile, verdict }) => [lockFile.slice(folder.length + 1), verdict]))).toEqual(kept)
  expect(swept.find(({ lockFile }) => lockFile === at('dead.md.lock'))).toMatchObject({ action: 'removed', verdict: 'dead', why: expect.stringContaining('dead') as unknown, stamp: { id: '0123456789abcdef' } })
  expect(swept.find(({ lockFile }) => lockFile === at('expired.md.lock'))).toMatchObject({ action: 'removed', verdict: 'expired' })
  const gone = [...dead, 'expired.md.lock'].map(at)
  expect(all()).toEqual(before.filter((path) => !gone.includes(path)))
  expect(existsSync(join(outside, 'dead.md.lock'))).toBe(true)
  expect(await held.release()).toBe(true)
  expect((await rejection(() => sweepLocks(at('nowhere')))).error).toMatchObject({ name: 'LockError', code: 'ENOENT' })
})

describe('inspectLock', () => {
  const alter = (file: string, change: object) => writeFileSync(`${file}.lock`, JSON.stringify({ ...(JSON.parse(readFileSync(`${file}.lock`, 'utf8')) as Stamp), ...change }))
  const states: [name: string, prepare: (file: string, folder: string) => unknown, found: object, remains: boolean][] = [
    ['free', () => {}, { state: 'free' }, false],
    ['held by a living process', (_, folder) => startHolder(folder), { state: 'held', verdict: 'alive', stamp: { owner: 'holder' } }, true],
    ['held without TTL', (_, folder) => startHolder(folder, '{ ttl: Infinity }'), { state: 'held', verdict: 'alive' }, false],
    ['detached', (file) => acquireLock(file, { detached: true }), { state: 'held', verdict: 'out-of-sight' }, true],
    ['detached and expired', (_, folder) => leaveExpiredLock(folder), { state: 'stale', verdict: 'expired' }, false],
    ['left by a dead process', (_, folder) => leaveDeadLock(folder), { state: 'stale', verdict: 'dead', stamp: { owner: 'holder' } }, false],
    ['of another boot', async (file, folder) => { await leaveDeadLock(folder); alter(file, { boot: 'another' }) }, { state: 'held', verdict: 'out-of-sight' }, true],
    ['empty', (file) => writeFileSync(`${file}.lock`, ''), { state: 'held', verdict: 'unstamped' }, false],
    ['torn', (file) => writeFileSync(`${file}.lock`, '{"v":1,"id":"01'), { state: 'held', verdict: 'unstamped' }, false],
    ['another tool\'s', (file) => writeFileSync(`${file}.lock`, '4242\n'), { state: 'held', verdict: 'foreign' }, false],
    ['of another version', (file) => writeFileSync(`${file}.lock`, '{"v":2}\n'), { state: 'held', verdict: 'foreign' }, false],
    ['a folder', (file) => mkdirSync(`${file}.lock`), { state: 'held', verdict: 'foreign' }, false],
    ['a symbolic link', (file) => symlinkSync('/dev/null', `${file}.lock`), { state: 'held', verdict: 'foreign' }, false],
  ]
  test.each(states)('%s', async (_, prepare, found, remains) => {
    const folder = tempFolder()
    const file = join(folder, 'queue.md')
    await prepare(file, folder)
    const before = readdirSync(folder)
    const inspection = inspectLock(file)
    expect(inspection).toMatchObject({ file, lockFile: `${file}.lock`, why: expect.stringMatching(/\w/) as unknown, ...found })
    expect(inspection.remainingMs !== undefined && inspection.remainingMs > 0).toBe(remains)
    expect(readdirSync(folder)).toEqual(before)
    // Who wants it finds the same.
    const taken = await acquireLock(file).catch((error: LockError) => error)
    expect(taken instanceof LockError ? 'held' : 'free').toBe(inspection.state === 'stale' ? 'free' : inspection.state)
    if (!(taken instanceof LockError)) await taken.release()
  })
})
