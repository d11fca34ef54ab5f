/*
 * A process that holds locks ends by every road as it would have ended without them, and leaves nothing. Each road is taken by
 * real processes, and its control is the same program without the lock.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { acquireLock, breakLock, inspectLock } from 'lockpact'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Child, distUrl, projectFolder, sleep, start, startNode, tempFolder } from './support.js'

const HANDLED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const HANG_MS = 10_000

/** What the children have in scope: `take` does nothing in the control, and `show` tells what is in the folder now. */
const PROLOGUE = `import { readdirSync, stat, writeSync } from 'node:fs'
const options = { owner: 'child' }
const take = { none: () => undefined, sync: () => acquireLockSync('queue.md', options), async: () => acquireLock('queue.md', options) }[process.env.TAKE]
const show = () => say('folder: ' + readdirSync('.').join())
const stay = () => setInterval(() => {}, 1000)
`

type Taking = 'none' | 'sync' | 'async'

function startTaking(taking: Taking, body: string, folder = tempFolder(), env: Record<string, string> = {}) {
  return { taking, folder, child: startNode(PROLOGUE + body, { cwd: folder, env: { TAKE: taking, ...env } }) }
}

/** How a child ended, with what it wrote on stderr: all that its parent can see. */
async function endOf(child: Child) {
  const end = await Promise.race([child.ended, sleep(HANG_MS).then(() => 'still running' as const)])
  return { end, err: child.err() }
}

/** Runs a program three times: without a lock, with a sync one, with an async one. It calls `show()` once it has the lock. */
function endings(body: string, signal?: NodeJS.Signals) {
  return Promise.all((['none', 'sync', 'async'] as const).map(async (taking) => {
    const { folder, child } = startTaking(taking, body)
    const seen = await child.line()
    if (signal) child.process.kill(signal)
    const { end, err } = await endOf(child)
    const how = { end, err: err.replaceAll(folder, '<folder>') }
    return { taking, seen, how, rest: child.out().slice(seen.length + 1), left: readdirSync(folder) }
  }))
}

const heldBy = (taking: Taking) => (taking === 'none' ? 'folder: ' : 'folder: queue.md.lock')

describe('ends as it would have ended without the lock, and leaves nothing', () => {
  const roads: [name: string, body: string, end: { code: number | null; signal: NodeJS.Signals | null }, err: RegExp, signal?: NodeJS.Signals][] = [
    ['when its event loop is empty', 'await take(); show()', { code: 0, signal: null }, /^$/],
    ['by process.exit(3)', 'await take(); show(); setTimeout(() => process.exit(3), 10)', { code: 3, signal: null }, /^$/],
    ['with process.exitCode = 4', 'await take(); show(); process.exitCode = 4', { code: 4, signal: null }, /^$/],
    ['by an error at its top level', `await take(); show(); throw new Error('thrown')`, { code: 1, signal: null }, /Error: thrown/],
    ['by an uncaught error in a callback', `await take(); show(); stay(); setTimeout(() => { throw new Error('thrown') }, 10)`, { code: 1, signal: null }, /Error: thrown/],
    ['by an unhandled rejection', `await take(); show(); stay(); Promise.reject(new Error('rejected'))`, { code: 1, signal: null }, /Error: rejected/],
    ['awaiting at its top level what never comes', 'await take(); show(); await new Promise(() => {})', { code: 13, signal: null }, /^(Warning: Detected unsettled top-level await.*)?$/s],
    ...HANDLED.map((signal): (typeof roads)[number] => [`by ${signal}`, 'await take(); show(); stay()', { code: null, signal }, /^$/, signal]),
  ]
  test.each(roads)('%s', async (_, body, end, err, signal) => {
    const [control, ...locked] = await endings(body, signal)
    expect(control!.how.end).toEqual(end)
    expect(control!.how.err).toMatch(err)
    for (const { taking, seen, how, left } of locked) {
      expect(seen).toBe(heldBy(taking))
      expect(how).toEqual(control!.how)
      expect(left).toEqual([])
    }
  })

  test('with several locks, sync and async', async () => {
    const { child, folder } = startTaking('async', `await take(); acquireLockSync('a/a.md'); await acquireLock('b.md', { ttl: Infinity }); await acquireLock('c.md::head'); show(); stay()`)
    expect(await child.line()).toBe('folder: a,b.md.lock,c.md@head.lock,queue.md.lock')
    child.process.kill('SIGTERM')
    expect(await endOf(child)).toEqual({ end: { code: null, signal: 'SIGTERM' }, err: '' })
    expect(readdirSync(folder)).toEqual(['a'])
    expect(readdirSync(join(folder, 'a'))).toEqual([])
  })

  test('by process.exit inside withLock', async () => {
    const { child, folder } = startTaking('async', `await withLock('queue.md', async () => { show(); await new Promise(setImmediate); process.exit(6) })`)
    expect(await child.line()).toBe('folder: queue.md.lock')
    expect(await endOf(child)).toEqual({ end: { code: 6, signal: null }, err: '' })
    expect(readdirSync(folder)).toEqual([])
  })

  test.each([
    ['registered before the lock is taken', `let lock; process.on('exit', () => say(String(lock.release()))); lock = acquireLockSync('queue.md'); show()`, 'true'],
    ['registered after the lock is taken', `const lock = acquireLockSync('queue.md'); process.on('exit', () => say(String(lock.release()))); show()`, 'false'],
    ['with an async lock', `let lock; process.on('exit', () => { lock.release(); say(String(lock.held)) }); lock = await acquireLock('queue.md'); show()`, 'false'],
  ])('by an application that releases when it exits, %s', async (_, body, said) => {
    const { child, folder } = startTaking('none', body)
    expect(await child.line()).toBe('folder: queue.md.lock')
    expect(await child.line()).toBe(said)
    expect(await endOf(child)).toEqual({ end: { code: 0, signal: null }, err: '' })
    expect(readdirSync(folder)).toEqual([])
  })
})

test.each(['SIGKILL', 'SIGQUIT'] as const)('%s leaves the lock, and the next who comes gets it at once', async (signal) => {
  const { child, folder } = startTaking('async', 'await take(); show(); stay()')
  await child.line()
  child.process.kill(signal)
  expect((await endOf(child)).end).toEqual({ code: null, signal })
  expect(readdirSync(folder)).toEqual(['queue.md.lock'])
  const lock = await acquireLock(join(folder, 'queue.md'))
  expect(lock.recovered?.owner).toBe('child')
  await lock.release()
  expect(readdirSync(folder)).toEqual([])
})

test('an exit does not remove the lock of a successor', async () => {
  const { child, folder } = startTaking('async', 'await take(); show(); stay()')
  await child.line()
  const file = join(folder, 'queue.md')
  child.process.kill('SIGSTOP') // it must not find out before it ends
  await breakLock(file, { reason: 'to see what its holder does' })
  const mine = await acquireLock(file, { owner: 'successor' })
  child.process.kill('SIGTERM')
  child.process.kill('SIGCONT')
  expect((await endOf(child)).end).toEqual({ code: null, signal: 'SIGTERM' })
  expect(inspectLock(file)).toMatchObject({ state: 'held', stamp: { owner: 'successor' } })
  expect(await mine.release()).toBe(true)
})

describe('a signal is not swallowed', () => {
  // From a callback of the poll phase, the check phase (setImmediate) comes before the process learns of the signal.
  const busy = 'const busy = (ms) => { for (const end = Date.now() + ms; Date.now() < end;); }'
  const moment = '() => { const lock = take(); show(); busy(400); lock?.release() }'
  test.each([
    ['for a moment', `stat('.', ${moment})`],
    ['for a moment, twice in neighbouring turns', `stat('.', () => { take()?.release(); stat('.', ${moment}); busy(50) })`],
    ['for a moment, again and again', `const again = ${moment}; setImmediate(function next() { again(); stat('.', () => setImmediate(next)) })`],
  ])('when it comes while a callback holds a lock %s', async (_, body) => {
    const ends = await Promise.all((['none', 'sync'] as const).map(async (taking) => {
      const { child, folder } = startTaking(taking, `stay(); ${busy}; ${body}`)
      expect(await child.line()).toBe(heldBy(taking))
      child.process.kill('SIGTERM')
      return { ...(await endOf(child)), left: readdirSync(folder) }
    }))
    expect(ends[0]).toEqual({ end: { code: null, signal: 'SIGTERM' }, err: '', left: [] })
    expect(ends[1]).toEqual(ends[0])
  })

  test.each(HANDLED)('%s while acquireLockSync waits', async (signal) => {
    const folder = tempFolder()
    const mine = await acquireLock(join(folder, 'queue.md'))
    const { child } = startTaking('none', `say('waiting'); acquireLockSync('queue.md', { wait: '8s' })`, folder)
    expect(await child.line()).toBe('waiting')
    await sleep(300)
    const sent = Date.now()
    child.process.kill(signal)
    expect(await endOf(child)).toEqual({ end: { code: null, signal }, err: '' })
    expect(Date.now() - sent).toBeLessThan(4_000)
    expect(await mine.release()).toBe(true)
    expect(readdirSync(folder)).toEqual([])
  })

  test('while acquireLock waits', async () => {
    const folder = tempFolder()
    const mine = await acquireLock(join(folder, 'queue.md'))
    const { child } = startTaking('none', `stay(); say('waiting'); await acquireLock('queue.md', { wait: Infinity })`, folder)
    expect(await child.line()).toBe('waiting')
    await sleep(300)
    child.process.kill('SIGTERM')
    expect(await endOf(child)).toEqual({ end: { code: null, signal: 'SIGTERM' }, err: '' })
    expect(await mine.release()).toBe(true)
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('where the application handles a signal', () => {
  const goesOn: [name: string, register: string][] = [
    ['process.on', `process.on('SIGINT', () => say('handled'))`],
    ['process.once', `process.once('SIGINT', () => say('handled'))`],
    ['an async handler', `process.on('SIGINT', async () => { await new Promise((resolve) => setTimeout(resolve, 50)); say('handled') })`],
    ['events.once', `import('node:events').then(async ({ once }) => { await once(process, 'SIGINT'); say('handled') })`],
  ]
  test.each(goesOn)('and goes on (%s), the lock stays and the process lives', async (_, register) => {
    const orders = [`${register}; const lock = await take(); show(); stay()`, `const lock = await take(); ${register}; await null; show(); stay()`]
    const tail = `\nprocess.stdin.once('data', async () => { say(String(lock.held)); say(String(await lock.release())); process.exit(8) })`
    await Promise.all(orders.map(async (body) => {
      const { child, folder } = startTaking('async', body + tail)
      expect(await child.line()).toBe('folder: queue.md.lock')
      await sleep(50) // events.once is loaded by import()
      child.process.kill('SIGINT')
      expect(await child.line()).toBe('handled')
      await sleep(100)
      expect(inspectLock(join(folder, 'queue.md'))).toMatchObject({ state: 'held', verdict: 'alive', stamp: { owner: 'child' } })
      child.process.stdin!.write('go\n')
      expect([await child.line(), await child.line()]).toEqual(['true', 'true'])
      expect(await endOf(child)).toEqual({ end: { code: 8, signal: null }, err: '' })
      expect(readdirSync(folder)).toEqual([])
    }))
  })

  test.each([
    ['calls process.exit', `process.on('SIGTERM', () => process.exit(5))`, { code: 5, signal: null }],
    ['calls process.exit later', `process.on('SIGTERM', async () => { await new Promise((resolve) => setTimeout(resolve, 50)); process.exit(5) })`, { code: 5, signal: null }],
    ['cleans up and raises the signal again', `process.once('SIGTERM', () => process.kill(process.pid, 'SIGTERM'))`, { code: null, signal: 'SIGTERM' }],
    ['stops what kept it running', `process.on('SIGTERM', () => clearInterval(running))`, { code: 0, signal: null }],
  ] as const)('and %s, the lock is released', async (_, register, end) => {
    const orders = [`${register}; await take(); const running = stay(); show()`, `await take(); ${register}; const running = stay(); show()`]
    for (const body of orders) {
      const [control, ...locked] = await endings(body, 'SIGTERM')
      expect(control!.how).toEqual({ end, err: '' })
      for (const { seen, how, left } of locked) {
        expect(seen).toBe('folder: queue.md.lock')
        expect(how).toEqual(control!.how)
        expect(left).toEqual([])
      }
    }
  })

  test('once only, the second signal ends the process and releases', async () => {
    const { child, folder } = startTaking('async', `process.once('SIGINT', () => say('handled')); await take(); show(); stay()`)
    await child.line()
    child.process.kill('SIGINT')
    expect(await child.line()).toBe('handled')
    expect(readdirSync(folder)).toEqual(['queue.md.lock'])
    child.process.kill('SIGINT')
    expect(await endOf(child)).toEqual({ end: { code: null, signal: 'SIGINT' }, err: '' })
    expect(readdirSync(folder)).toEqual([])
  })

  test('or an uncaught error, and goes on, the lock stays', async () => {
    const { child, folder } = startTaking('async', `process.on('uncaughtException', () => show()); await take(); stay(); setTimeout(() => { throw new Error() })`)
    expect(await child.line()).toBe('folder: queue.md.lock')
    await sleep(50)
    expect(inspectLock(join(folder, 'queue.md'))).toMatchObject({ state: 'held', verdict: 'alive' })
  })
})

describe('beside other libraries that listen for signals', () => {
  const installed = mkdtempSync(join(tmpdir(), 'lockpact-beside-'))
  const copyUrl = pathToFileURL(join(installed, 'copy/dist/index.js')).href
  const unavailable = new Map<number, string>()
  const signalExit = (version: number) => pathToFileURL(join(installed, String(version), 'node_modules/signal-exit', version === 3 ? 'index.js' : 'dist/mjs/index.js')).href

  beforeAll(() => {
    cpSync(join(projectFolder, 'dist'), join(installed, 'copy/dist'), { recursive: true })
    cpSync(join(projectFolder, 'package.json'), join(installed, 'copy/package.json'))
    for (const version of [3, 4]) {
      try {
        const prefix = join(installed, String(version))
        execFileSync('npm', ['install', `signal-exit@${version}`, '--no-save', '--no-audit', '--no-fund', '--fetch-retries=1', '--fetch-timeout=10000', '--prefix', prefix], { stdio: 'pipe', timeout: 50_000 })
      } catch (error) {
        unavailable.set(version, `signal-exit ${version} could not be installed: ${(error as Error).message.split('\n')[0]}`)
      }
    }
  })
  afterAll(() => rmSync(installed, { recursive: true, force: true }))
  beforeEach(({ skip, task }) => {
    for (const [version, why] of unavailable) skip(task.name.includes(`signal-exit ${version}`), why)
  })

  /** A statement that loads signal-exit and prints how it was called. */
  const loadSignalExit = (version: number) =>
    `const onExit${version} = await import(${JSON.stringify(signalExit(version))}).then((it) => it.onExit ?? it.default); onExit${version}((code, signal) => { writeSync(1, 'onExit ' + code + ' ' + signal + '\\n') })`

  test.each([3, 4].flatMap((version) => (['before', 'after'] as const).map((order) => ({ version, order }))))(
    'signal-exit $version, loaded $order the lock is taken: the process ends by the signal, its callbacks run',
    async ({ version, order }) => {
      const load = loadSignalExit(version)
      const body = order === 'before' ? `${load}; await take(); show(); stay()` : `await take(); ${load}; show(); stay()`
      for (const signal of HANDLED) {
        const [control, ...locked] = await endings(body, signal)
        expect(control!.how).toEqual({ end: { code: null, signal }, err: '' })
        expect(control!.rest).toBe(`onExit null ${signal}\n`)
        for (const { seen, how, rest, left } of locked) {
          expect(seen).toBe('folder: queue.md.lock')
          expect(how).toEqual(control!.how)
          expect(rest).toBe(control!.rest)
          expect(left).toEqual([])
        }
      }
    },
  )

  test('signal-exit 4 on process.exit: its callbacks run, and nothing is left', async () => {
    const [control, ...locked] = await endings(`${loadSignalExit(4)}; await take(); show(); setTimeout(() => process.exit(3), 10)`)
    expect(control).toMatchObject({ how: { end: { code: 3, signal: null } }, rest: 'onExit 3 null\n' })
    for (const { seen, how, rest, left } of locked) {
      expect(seen).toBe('folder: queue.md.lock')
      expect({ how, rest, left }).toEqual({ how: control!.how, rest: control!.rest, left: [] })
    }
  })

  const beside: [name: string, needs: number[], load: string][] = [
    ['a second copy of this package', [], ''],
    ['a second copy and signal-exit 4', [4], loadSignalExit(4)],
    ['a second copy and signal-exit 3', [3], loadSignalExit(3)],
    ['a second copy, signal-exit 3 and signal-exit 4', [3, 4], `${loadSignalExit(3)}; ${loadSignalExit(4)}`],
  ]
  test.each(beside)('%s, both holding: the process ends by the signal, and nothing is left', async (_, needs, load) => {
    const orders = [
      `${load}\nawait acquireLock('one.md'); const copy = await import(${JSON.stringify(copyUrl)}); await copy.acquireLock('two.md')`,
      `const copy = await import(${JSON.stringify(copyUrl)}); copy.acquireLockSync('two.md'); acquireLockSync('one.md')\n${load}`,
    ]
    await Promise.all(orders.flatMap((body) => (['SIGTERM', 'SIGINT'] as const).map(async (signal) => {
      const { child, folder } = startTaking('none', `${body}; if (copy.acquireLock === acquireLock) throw new Error('not a copy'); show(); stay()`)
      expect(await child.line()).toBe('folder: one.md.lock,two.md.lock')
      child.process.kill(signal)
      expect(await endOf(child)).toEqual({ end: { code: null, signal }, err: '' })
      expect(child.out().match(/onExit null/g) ?? []).toHaveLength(needs.length)
      expect(readdirSync(folder)).toEqual([])
    })))
  })

  test('a second copy, and the application handles the signal: both locks stay', async () => {
    const { child, folder } = startTaking('none', `const copy = await import(${JSON.stringify(copyUrl)}); acquireLockSync('one.md'); copy.acquireLockSync('two.md')
process.on('SIGTERM', () => show()); show(); stay()`)
    expect(await child.line()).toBe('folder: one.md.lock,two.md.lock')
    child.process.kill('SIGTERM')
    expect(await child.line()).toBe('folder: one.md.lock,two.md.lock')
    child.process.kill('SIGKILL')
    await child.ended
    expect(readdirSync(folder)).toHaveLength(2)
  })
})

describe('handlers', () => {
  /** Counts every listener of the process, and its timers, watchers and signal handles, also those that do not keep it alive. */
  const COUNT = `import { createHook } from 'node:async_hooks'
import { constants } from 'node:os'
import { readdirSync } from 'node:fs'
const live = new Map()
createHook({ init: (id, type) => /Timeout|FSEVENT|STATWATCH|SIGNAL/.test(type) && live.set(id, type), destroy: (id) => live.delete(id) }).enable()
const handlers = () => Object.fromEntries([...Object.keys(constants.signals), 'exit', 'beforeExit', 'uncaughtException', 'unhandledRejection', 'message']
  .map((name) => [name, process.listenerCount(name) - (base[name] ?? 0)]).filter(([, count]) => count !== 0))
let base = {}
base = handlers() // Node's own: it listens for the exit of a module that awaits
const everything = () => ({ handlers: handlers(), names: process.eventNames().length, live: [...live.values()], active: process.getActiveResourcesInfo().filter((name) => !/Pipe|TTY|Req/.test(name)), folder: readdirSync('.') })
const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
const tell = (value) => process.stdout.write(JSON.stringify(value) + '\\n')
`
  const startCounting = (body: string, folder = tempFolder()) => start([process.execPath, '--input-type=module', '-e', COUNT + body], { cwd: folder })
  const OURS = { SIGHUP: 1, SIGINT: 1, SIGTERM: 1, exit: 1 }

  test('importing installs nothing and starts nothing', async () => {
    const child = startCounting(`tell(everything()); await import(${JSON.stringify(distUrl)}); tell(everything()); await turn(); tell(everything())`)
    const [before, after, later] = [JSON.parse(await child.line()), JSON.parse(await child.line()), JSON.parse(await child.line())]
    expect(before).toMatchObject({ handlers: {}, live: [], folder: [] })
    expect(after).toEqual(before)
    expect(later).toEqual(before)
    expect((await endOf(child)).end).toEqual({ code: 0, signal: null })
  })

  test('are there while a lock is held, once for all locks, and gone a turn after the last release', async () => {
    const child = startCounting(`const { acquireLock, acquireLockSync } = await import(${JSON.stringify(distUrl)})
tell(everything())
const one = await acquireLock('one.md'); const two = acquireLockSync('two.md'); tell(everything())
await one.release(); await turn(); tell(handlers())
two.release(); await turn(); tell(handlers())
await new Promise((resolve) => setTimeout(resolve, 50)); await turn(); tell(everything())`)
    const [before, both, one, none, later] = [JSON.parse(await child.line()), JSON.parse(await child.line()), JSON.parse(await child.line()), JSON.parse(await child.line()), JSON.parse(await child.line())]
    expect(both.handlers).toEqual(OURS)
    // The lock's own timer and handles do not keep the process alive, but they are there: the hook sees them.
    expect(both.live).toContain('Timeout')
    expect(both.active).toEqual(before.active)
    expect(one).toEqual(OURS)
    expect(none).toEqual({})
    expect(later).toEqual(before)
  })

  test('are gone after a refusal, a wait in vain and a wait that was aborted', async () => {
    const folder = tempFolder()
    const mine = await acquireLock(join(folder, 'queue.md'))
    const child = startCounting(`const { acquireLock, acquireLockSync } = await import(${JSON.stringify(distUrl)})
const before = everything()
for (const attempt of [
  () => acquireLock('queue.md'), () => acquireLock('queue.md', { wait: 200 }), () => acquireLock('queue.md', { wait: Infinity, signal: AbortSignal.timeout(200) }),
  async () => acquireLockSync('queue.md', { wait: 200 }),
]) {
  await attempt().catch((error) => error)
  await turn()
  tell(handlers())
}
await new Promise((resolve) => setTimeout(resolve, 50)); await turn(); await turn()
tell(before); tell(everything())`, folder)
    for (let i = 0; i < 4; i++) expect(JSON.parse(await child.line())).toEqual({})
    const before = JSON.parse(await child.line())
    expect(JSON.parse(await child.line())).toEqual(before)
    expect(before.folder).toEqual(['queue.md.lock'])
    await mine.release()
  })

  test('are in place before the lock file is', async () => {
    const child = startCounting(`import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
const real = fs.openSync
fs.openSync = (path, flags, ...rest) => {
  if (String(path).endsWith('.lock') && flags & fs.constants.O_EXCL) tell({ path: path.split('/').pop(), handlers: handlers() })
  return real(path, flags, ...rest)
}
syncBuiltinESMExports()
const { acquireLock, acquireLockSync } = await import(${JSON.stringify(distUrl)})
const one = await acquireLock('async.md'); await one.release(); await turn()
const two = acquireLockSync('sync.md'); two.release(); await turn()
await acquireLock('detached.md', { detached: true }); process.stdout.write('end\\n')`)
    expect(JSON.parse(await child.line())).toEqual({ path: 'async.md.lock', handlers: OURS })
    expect(JSON.parse(await child.line())).toEqual({ path: 'sync.md.lock', handlers: OURS })
    expect(JSON.parse(await child.line())).toEqual({ path: 'detached.md.lock', handlers: {} })
    expect(await child.line()).toBe('end')
  })

  test('are not installed for a detached lock, which outlives its process', async () => {
    for (const [body, signal] of [['', undefined], ['stay()', 'SIGTERM'], ['process.exit(2)', undefined]] as const) {
      const { child, folder } = startTaking('async', `const count = () => process.listenerCount('exit') + process.listenerCount('SIGTERM'), before = count()
await acquireLock('detached.md', { detached: true }); acquireLockSync('bound.md', { pid: process.ppid }); say(String(count() - before)); await take(); show(); ${body}`)
      expect(await child.line()).toBe('0')
      expect(await child.line()).toBe('folder: bound.md.lock,detached.md.lock,queue.md.lock')
      if (signal) child.process.kill(signal)
      await child.ended
      expect(readdirSync(folder)).toEqual(['bound.md.lock', 'detached.md.lock'])
      expect(inspectLock(join(folder, 'detached.md'))).toMatchObject({ state: 'held', verdict: 'out-of-sight' })
      expect(inspectLock(join(folder, 'bound.md'))).toMatchObject({ state: 'held', verdict: 'alive' })
    }
  })
})

describe('a worker thread that holds a lock', () => {
  /** The main thread says `held`, when the worker is, and goes on with `main`; the worker with `worker`. */
  const program = (worker: string, main: string) => `import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(`
import { acquireLock, acquireLockSync } from ${JSON.stringify(distUrl)}
import { parentPort } from 'node:worker_threads'
const one = await acquireLock('one.md', { owner: 'worker' }); const two = acquireLockSync('two.md')
parentPort.postMessage('held')
${worker}`)})))
await once(worker, 'message'); show()
${main}`

  test.each([
    ['ends by itself', 'setTimeout(() => {}, 50)', ''],
    ['calls process.exit', 'setTimeout(() => process.exit(3), 10)', ''],
    ['throws', `setTimeout(() => { throw new Error('thrown') }, 10)`, `worker.on('error', () => {})`],
  ])('and %s, releases it; the process lives', async (_, worker, main) => {
    const { child, folder } = startTaking('none', program(worker, `${main}; await new Promise((resolve) => worker.on('exit', resolve)); show(); process.exitCode = 9`))
    expect(await child.line()).toBe('folder: one.md.lock,two.md.lock')
    expect(await child.line()).toBe('folder: ')
    expect(await endOf(child)).toEqual({ end: { code: 9, signal: null }, err: '' })
    expect(readdirSync(folder)).toEqual([])
  })

  test('and is terminated, leaves it, and the next who comes gets it at once, in the same process too', async () => {
    const { child, folder } = startTaking('none', program('setInterval(() => {}, 1000)', `await worker.terminate(); show()
const lock = await acquireLock('one.md'); say(lock.recovered.owner); await lock.release(); stay()`))
    expect(await child.line()).toBe('folder: one.md.lock,two.md.lock')
    expect(await child.line()).toBe('folder: one.md.lock,two.md.lock')
    expect(await child.line()).toBe('worker')
    await (await acquireLock(join(folder, 'two.md'))).release()
  })

  test.each([
    ['calls process.exit', 'setTimeout(() => process.exit(4), 10)', undefined, { code: 4, signal: null }],
    ['throws', `setTimeout(() => { throw new Error('thrown') }, 10)`, undefined, { code: 1, signal: null }],
    ['is ended by SIGTERM', '', 'SIGTERM', { code: null, signal: 'SIGTERM' }],
  ] as const)('while the main thread %s: the process ends so, and the next who comes gets it at once', async (_, main, signal, end) => {
    const { child, folder } = startTaking('async', program('setInterval(() => {}, 1000)', `await take(); show(); ${main}`))
    await child.line()
    expect(await child.line()).toBe('folder: one.md.lock,queue.md.lock,two.md.lock')
    if (signal) child.process.kill(signal)
    expect((await endOf(child)).end).toEqual(end)
    expect(existsSync(join(folder, 'queue.md.lock'))).toBe(false)
    for (const name of ['one.md', 'two.md']) await (await acquireLock(join(folder, name))).release()
    expect(readdirSync(folder)).toEqual([])
  })
})
