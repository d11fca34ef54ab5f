import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, acquireLockSync, type LockEvent, withLock } from 'lockpact'
import { expect, test } from 'vitest'
import { sleep, startNode, tempFolder, until } from './support.js'

test('a lock that is held refuses, and is free again after release', async () => {
  const file = join(tempFolder(), 'queue.md')
  const lock = await acquireLock(file, { owner: 'first' })
  await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED', holder: { owner: 'first' }, verdict: 'alive' })
  expect(await lock.release()).toBe(true)
  expect(existsSync(`${file}.lock`)).toBe(false)
  await (await acquireLock(file)).release()
})

test('a holder that was killed is recovered from at once, and its stamp is told', async () => {
  const folder = tempFolder()
  const child = startNode(`await acquireLock('queue.md', { owner: 'killed' }); say('held'); setInterval(() => {}, 1000)`, { cwd: folder })
  expect(await child.line()).toBe('held')
  child.process.kill('SIGKILL')
  await child.ended
  const lock = await acquireLock(join(folder, 'queue.md'))
  expect(lock.recovered?.owner).toBe('killed')
  await lock.release()
  expect(readdirSync(folder)).toEqual([])
})

test('a result is not lost where the lock cannot be released now: the release goes on in the background, and onEvent is told', { timeout: 30_000 }, async () => {
  const file = join(tempFolder(), 'queue.md')
  const child = startNode(`await acquireLock('other.md'); say('held'); setInterval(() => {}, 1000)`, { cwd: tempFolder() })
  await child.line()
  const events: LockEvent['type'][] = []
  const result = await withLock(file, { onEvent: ({ type }) => events.push(type) }, (lock) => {
    // A guard of a living process, as if it had been suspended in the middle of a removal.
    const { processes, ...stamp } = JSON.parse(readFileSync(`${file}.lock`, 'utf8'))
    writeFileSync(`${file}.lock.guard`, JSON.stringify({ ...stamp, id: '0123456789abcdef', ttlMs: undefined, processes: [{ pid: child.pid }] }))
    return lock.fence
  })
  expect(result).toBeGreaterThan(0)
  expect(events).toEqual(['acquired', 'stuck'])
  expect(existsSync(`${file}.lock`)).toBe(true)
  rmSync(`${file}.lock.guard`)
  await until(() => !existsSync(`${file}.lock`))
})

test('waiting for a lock that this very thread holds, without the event loop, is refused at once', async () => {
  const file = join(tempFolder(), 'queue.md')
  const lock = await acquireLock(file, { owner: 'myself' })
  expect(() => acquireLockSync(file, { wait: Infinity })).toThrow(/is locked.* by "myself"/)
  await lock.release()
})

test('a stamp from the future of our boot clock is judged by the file system’s clock', async () => {
  const file = join(tempFolder(), 'queue.md')
  const lock = await acquireLock(file, { detached: true, ttl: '1s' })
  const stamp = JSON.parse(readFileSync(`${file}.lock`, 'utf8'))
  writeFileSync(`${file}.lock`, JSON.stringify({ ...stamp, bootMs: stamp.bootMs + 864_000_000 }))
  await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED' })
  const next = await acquireLock(file, { wait: '10s' })
  expect(next.recovered?.id).toBe(lock.id)
  await next.release()
})

test('who takes a lock late, and then again, does not clean its own lock up', async () => {
  const folder = tempFolder()
  const dead = startNode(`await acquireLock('queue.md'); say('held'); setInterval(() => {}, 1000)`, { cwd: folder })
  await dead.line()
  dead.process.kill('SIGKILL')
  await dead.ended
  // Held up, once, in the exclusive create that follows the unlink: a third of the TTL is 166 ms.
  const late = startNode(
    `const fs = process.getBuiltinModule('node:fs'), { openSync, unlinkSync } = fs
let held = 'not yet'
fs.unlinkSync = (path) => { if (path.endsWith('.lock') && held === 'not yet') held = 'next'; return unlinkSync(path) }
fs.openSync = (path, ...rest) => {
  if (held === 'next' && path.endsWith('.lock')) { held = 'done'; Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300) }
  return openSync(path, ...rest)
}
const lock = await acquireLock('queue.md', { ttl: 500, wait: '5s' })
await new Promise((resolve) => setTimeout(resolve, 400))
say(held + ' ' + lock.held + ' ' + fs.existsSync(lock.lockFile))`,
    { cwd: folder },
  )
  expect(await late.line()).toBe('done true true')
})

test('a late renewal that could not be confirmed is not believed on the strength of its own writing', { timeout: 30_000 }, async () => {
  const file = join(tempFolder(), 'queue.md')
  const child = startNode(`await acquireLock('other.md'); say('held'); setInterval(() => {}, 1000)`, { cwd: tempFolder() })
  await child.line()
  const lock = await acquireLock(file, { ttl: 600 })
  const { processes, ...stamp } = JSON.parse(readFileSync(`${file}.lock`, 'utf8'))
  // A recoverer, suspended between its last look and its unlink, while the holder sleeps beyond its lease.
  writeFileSync(`${file}.lock.guard`, JSON.stringify({ ...stamp, id: '0123456789abcdef', ttlMs: undefined, processes: [{ pid: child.pid }] }))
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 800)
  for (let looks = 0; looks < 10; looks++) {
    expect(lock.held).toBe(false)
    await sleep(50)
  }
  rmSync(`${file}.lock.guard`)
  await until(() => lock.held || lock.signal.aborted)
  await lock.release()
})
