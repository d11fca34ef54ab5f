/*
 * Whatever lies at a lock's path: nothing that is not provably a lock of ours, and over, is ever taken, changed or removed.
 */
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { acquireLock, acquireLockSync, breakLock, inspectLock, releaseLock, renewLock, sweepLocks } from 'lockpact'
import { describe, expect, onTestFinished, test } from 'vitest'
import { decode, encode, type Stamp } from '../lib/core/stamp.js'
import { system } from '../lib/core/system.js'
import { isRoot, sleep, startNode, tempFolder, until } from './support.js'

const MINUTE = 60_000
const YEARS_AGO = new Date('2019-05-01T12:00:00Z')
const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * MINUTE)

const { boot, pidns, timens, host, self } = system.machine()
const here = { boot, pidns, timens, host }
/** A stamp of a process that does not exist any more: our pid, another start. */
const deadStamp: Stamp = { v: 1, id: '00000000deadbeef', owner: 'killed', processes: [{ pid: process.pid, start: '1' }], ...here, renews: true }
/** A stamp of this process, which lives. */
const liveStamp: Stamp = { v: 1, id: '00000000001157e2', owner: 'living', reason: 'a part of the test', processes: [self!], ...here, acquiredAt: new Date().toISOString(), renews: true, fence: 1_700_000_000_000_000 }

/** All that would show that somebody touched it. */
function fingerprint(path: string): object {
  const stats = fs.lstatSync(path, { bigint: true })
  const content = stats.isFile() ? fs.readFileSync(path, 'base64') : stats.isSymbolicLink() ? fs.readlinkSync(path) : stats.isDirectory() ? fs.readdirSync(path) : ''
  return { mode: stats.mode, inode: stats.ino, links: stats.nlink, size: stats.size, mtime: stats.mtimeNs, content }
}

const at = (file: string) => `${file}.lock`

async function askEverything(file: string, verdict: string): Promise<void> {
  const refused = { name: 'LockError', code: 'ELOCKED', verdict }
  await expect(acquireLock(file)).rejects.toMatchObject(refused)
  expect(caught(() => acquireLockSync(file))).toMatchObject(refused)
  expect(inspectLock(file)).toMatchObject({ state: 'held', verdict })
  await expect(renewLock(file, 'a token')).rejects.toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED' })
  await expect(releaseLock(file, 'a token')).rejects.toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED' })
  expect(await sweepLocks(dirname(file))).toMatchObject([{ lockFile: at(file), action: 'kept', verdict }])
}

function caught(call: () => unknown): unknown {
  try {
    call()
  } catch (error) {
    return error
  }
  throw new Error('it was expected to throw')
}

// ---- what is not ours ----

const foreign: Record<string, (path: string) => void> = {
  "another tool's lock": write('{"pid":4242,"hostname":"mac-mini"}\n'),
  'a bare pid': write('4242\n'),
  'a number that is the version': write('1'),
  'words': write('locked by me'),
  'binary': write(Buffer.from(Array.from({ length: 700 }, (_, i) => (i * 89 + 255) % 256))),
  'not UTF-8': write(Buffer.from('fffe7b227622', 'hex')),
  'five megabytes': write(Buffer.alloc(5e6, 'lock ')),
  'five megabytes that begin like a stamp': write(`{"v":1,"owner":"${'x'.repeat(5e6)}`),
  'a stamp with too much behind it': write(`${encode(liveStamp)}${encode(liveStamp)}`),
  'a long text that begins with blanks': write(`${' '.repeat(3000)}[[package]]\n`),
  'a megabyte of NUL bytes': write(Buffer.alloc(1e6)),
  'a stamp of version 2': write('{"v":2,"owner":"the future"}\n'),
  'a stamp of version "1"': write('{"v":"1"}'),
  'a stamp of version 1.5': write('{"v":1.5}'),
  'a stamp of version null': write('{"v":null}'),
  'a version that is only inherited': write('{"__proto__":{"v":1}}'),
  'an array': write('[{"v":1}]'),
  'null': write('null'),
  'a text in JSON': write('"v"'),
  'an empty object': write('{}'),
  'a thousand brackets': write('['.repeat(1000)),
  'a thousand brackets in a stamp, closed': write(`{"v":1,"processes":${'['.repeat(480)}${']'.repeat(480)}}`),
  'an empty folder': (path) => fs.mkdirSync(path),
  'a folder with a file': (path) => {
    fs.mkdirSync(path)
    fs.writeFileSync(join(path, 'pid'), '4242')
  },
  'a symbolic link to a dead lock': (path) => {
    fs.mkdirSync(join(dirname(path), '.git'))
    const target = join(dirname(path), '.git', 'target')
    fs.writeFileSync(target, encode(deadStamp))
    fs.symlinkSync(target, path)
  },
  'a dangling symbolic link': (path) => fs.symlinkSync('nowhere', path),
  'a symbolic link to itself': (path) => fs.symlinkSync(basename(path), path),
  'a FIFO': (path) => execFileSync('mkfifo', [path]),
}

function write(content: string | Buffer) {
  return (path: string) => fs.writeFileSync(path, content)
}

test.each(Object.entries(foreign))('%s is held, years old as it is, and stays untouched', async (_, make) => {
  const file = join(tempFolder(), 'queue.md')
  make(at(file))
  fs.lutimesSync(at(file), YEARS_AGO, YEARS_AGO)
  const before = fingerprint(at(file))
  const names = fs.readdirSync(dirname(file))
  await askEverything(file, 'foreign')
  expect(fingerprint(at(file))).toEqual(before)
  expect(fs.readdirSync(dirname(file))).toEqual(names)
})

test('a socket is held and stays untouched', async () => {
  const file = join(tempFolder(), 'queue.md')
  const server = createServer().listen(at(file))
  onTestFinished(() => void server.close())
  await until(() => fs.existsSync(at(file)))
  const before = fingerprint(at(file))
  await askEverything(file, 'foreign')
  expect(fingerprint(at(file))).toEqual(before)
})

test('a device is held and stays untouched', async ({ skip }) => {
  skip(!isRoot, 'only root makes devices')
  const file = join(tempFolder(), 'queue.md')
  try {
    execFileSync('mknod', [at(file), 'c', '1', '5'], { stdio: 'ignore' })
  } catch {
    skip('this root may not make devices')
  }
  const before = fingerprint(at(file))
  await askEverything(file, 'foreign')
  expect(fingerprint(at(file))).toEqual(before)
})

test('a file that we may not read is held and stays untouched', async () => {
  const folder = tempFolder()
  fs.chmodSync(folder, 0o777)
  const file = join(folder, 'queue.md')
  fs.writeFileSync(at(file), encode(deadStamp), { mode: 0o000 })
  fs.utimesSync(at(file), YEARS_AGO, YEARS_AGO)
  const before = isRoot ? fingerprint(at(file)) : undefined
  const child = startNode(`
    if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534) }
    const codeOf = (promise) => promise.then(() => 'granted', (error) => isLockError(error) ? error.code + ' ' + error.verdict : String(error))
    say(await codeOf(acquireLock('queue.md')))
    say(inspectLock('queue.md').state + ' ' + inspectLock('queue.md').verdict)
    say(await codeOf(releaseLock('queue.md', 'a token')))
    say(await codeOf(renewLock('queue.md', 'a token')))
    say((await sweepLocks('.')).map(({ action, verdict }) => action + ' ' + verdict).join())`, { cwd: folder })
  expect(await child.line()).toBe('ELOCKED foreign')
  expect(await child.line()).toBe('held foreign')
  for (let n = 0; n < 2; n++) expect(['ENOTACQUIRED undefined', 'EACCES undefined']).toContain(await child.line())
  expect(await child.line()).toBe('kept foreign')
  expect((await child.ended).code).toBe(0)
  if (before) expect(fingerprint(at(file))).toEqual(before)
  expect(fs.readdirSync(folder)).toEqual(['queue.md.lock'])
})

test("a Cargo.lock in the way of 'Cargo' is no left-over, and the error says how a person would remove it", async () => {
  const file = join(tempFolder(), 'Cargo')
  const content = '# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = 3\n\n[[package]]\nname = "adler"\nversion = "1.0.2"\n'
  fs.writeFileSync(at(file), content)
  fs.utimesSync(at(file), YEARS_AGO, YEARS_AGO)
  const error = await acquireLock(file, { wait: '1s' }).catch((error: Error) => error)
  expect(error).toMatchObject({ code: 'ELOCKED', verdict: 'foreign', holder: undefined })
  expect((error as Error).message).toMatch(/Cargo\.lock is not a lock of ours.*lockpact break .*Cargo/)
  await askEverything(file, 'foreign')
  expect(fs.readFileSync(at(file), 'utf8')).toBe(content)
  expect(fs.statSync(at(file)).mtimeMs).toBe(YEARS_AGO.getTime())
})

// ---- stamps with something wrong in them ----

describe('a stamp of version 1', () => {
  const neither = [null, true, {}, [], { length: 1 }]
  const wrong: Record<string, unknown[]> = {
    id: [...neither, 1, '', '9f2c41d7a0b3e81', '9f2c41d7a0b3e8166', '9F2C41D7A0B3E816', '9f2c41d7a0b3e81g', '9f2c41d7a0b3e816\n'],
    ...Object.fromEntries(['owner', 'reason', 'boot', 'pidns', 'timens', 'host', 'acquiredAt', 'renewedAt', 'expiresAt'].map((key) => [key, [...neither, 0, 1.5]])),
    processes: [null, true, {}, 4242, '4242', [4242], [null], [[]], [{}], ...[0, -1, 2 ** 31, 2 ** 53, 1.5, '4242', null, true, [4242], {}].map((pid) => [{ pid }]),
      [{ pid: process.pid, start: 5 }], [{ pid: process.pid, start: null }], [{ pid: process.pid, tid: '1' }], [{ pid: process.pid, tid: 0 }], [{ pid: process.pid, start: '1' }, { pid: -1 }]],
    ttlMs: [...neither, 0, -1, -0.5, '600000', ''],
    renews: [null, 0, 1, 'true', '', {}, []],
    bootMs: [...neither, -1, '1'],
    fence: [...neither, -1, '1'],
  }

  test.each(Object.entries(wrong))('with an unusable %s is held, and stays untouched', (key, values) => {
    const file = join(tempFolder(), 'queue.md')
    for (const value of values) {
      // But for that field, it would be dead, and expired long ago.
      const text = JSON.stringify({ ...deadStamp, ttlMs: 1000, bootMs: 0, [key]: value })
      fs.writeFileSync(at(file), text)
      fs.utimesSync(at(file), YEARS_AGO, YEARS_AGO)
      expect(inspectLock(file), text).toMatchObject({ state: 'held', verdict: 'foreign' })
      expect(caught(() => acquireLockSync(file)), text).toMatchObject({ code: 'ELOCKED', verdict: 'foreign' })
      expect(fs.readFileSync(at(file), 'utf8')).toBe(text)
      expect(fs.statSync(at(file)).mtimeMs, text).toBe(YEARS_AGO.getTime())
    }
  })

  test('without anything but its version is held, years old as it is', async () => {
    const file = join(tempFolder(), 'queue.md')
    fs.writeFileSync(at(file), '{"v":1}')
    fs.utimesSync(at(file), YEARS_AGO, YEARS_AGO)
    await askEverything(file, 'out-of-sight')
  })

  test('of a shell script is held for its TTL by the times of the file, and then free', async () => {
    const file = join(tempFolder(), 'queue.md')
    fs.writeFileSync(at(file), '{"v":1,"owner":"me","ttlMs":600000}\n')
    fs.utimesSync(at(file), minutesAgo(10), minutesAgo(10)) // another machine's, for all we know: a minute of slack
    await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED', verdict: 'out-of-sight', holder: { owner: 'me' } })
    fs.utimesSync(at(file), minutesAgo(11.2), minutesAgo(11.2))
    const lock = await acquireLock(file)
    expect(lock.recovered).toMatchObject({ owner: 'me' })
    await lock.release()
  })

  test('with keys that objects inherit is read as what it says', () => {
    expect(decode('{"v":1,"__proto__":{"owner":"x"},"constructor":5,"toString":null}')).toMatchObject({ kind: 'stamp', stamp: { v: 1 } })
    expect((Object.prototype as { owner?: string }).owner).toBeUndefined()
  })

  test('cannot write control characters into the message of a refusal', async () => {
    const file = join(tempFolder(), 'queue.md')
    const evil = '\u001b[2J\nfree\r\u0007'
    const time = `2026-01-01 (${evil})`
    fs.writeFileSync(at(file), JSON.stringify({ v: 1, owner: evil, reason: evil, host: evil, acquiredAt: time, expiresAt: time, renewedAt: time, ttlMs: 600_000 }))
    const error = await acquireLock(file).catch((error: Error) => error)
    expect(error).toMatchObject({ code: 'ELOCKED' })
    expect((error as Error).message).not.toMatch(/[\0-\x1f\x7f]/)
  })
})

// ---- at random ----

/** Mulberry32: the same seed, the same cases. */
function randomOf(seed: number) {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return { below, pick: <T>(list: readonly T[]): T => list[below(list.length)]!, bytes: (length: number) => Buffer.from(Array.from({ length }, () => below(256))) }
}
type Random = ReturnType<typeof randomOf>

const JUNK = ['{}', '[]', 'null', 'true', '-1', '0', '1.5', '1e999', '-0', '""', '"\\u0000"', '"\\ud800"', '[{}]', '{"v":1}', '2147483648', '9007199254740993', '"4242"', '[[[[]]]]']
const KEYS = ['v', 'id', 'owner', 'reason', 'processes', 'boot', 'pidns', 'timens', 'host', 'acquiredAt', 'renewedAt', 'expiresAt', 'ttlMs', 'renews', 'bootMs', 'fence', '__proto__', 'constructor', 'length', 'toString']

/** Texts that were written a moment ago and are no proof that anybody is dead: whatever they are, they are held. */
function freshText(random: Random): Buffer {
  const shell = Buffer.from('{"v":1,"owner":"me","reason":"a shell script","ttlMs":600000}\n')
  switch (random.below(6)) {
    case 0: return random.bytes(random.below(1500))
    case 1: { // a real stamp, some bytes of it other ones
      const text = Buffer.from(shell)
      for (let flips = 1 + random.below(4); flips > 0; flips--) text[random.below(text.length)] = random.below(256)
      return text
    }
    case 2: { // fields of all kinds, some twice
      const fields = Array.from({ length: random.below(12) }, () => `${JSON.stringify(random.pick(KEYS))}:${random.pick(JUNK)}`)
      return Buffer.from(`{${random.pick(['"v":1,', '"v":1,', '"v":2,', ''])}${fields.join(',')}${random.pick(['}', '}\n', '', '},'])}`)
    }
    case 3: { // a real stamp of another machine, something put into it
      const text = encode({ ...liveStamp, boot: 'another', ttlMs: 3_600_000 })
      const where = random.below(text.length)
      return Buffer.from(text.slice(0, where) + random.pick([...JUNK, '\0', '\n', '{"v":1,', '🔒', '\ufeff']) + text.slice(where + random.below(3)))
    }
    case 4: return Buffer.from(encode(liveStamp)).subarray(0, random.below(1025))
    default: return Buffer.from(random.pick(['{', '[', ' ', '\0', '\n', '"', '{"v":', '{"v":1', '{"v":1}', '\ufeff', '0', 'é']).repeat(random.below(400)))
  }
}

test('of thousands of texts at random, not one is taken or touched', async () => {
  const seed = Number(process.env['LOCKPACT_SEED'] ?? Date.now() % 2 ** 31)
  console.log(`LOCKPACT_SEED=${seed}`)
  const random = randomOf(seed)
  const file = join(tempFolder(), 'queue.md')
  const verdicts: Record<string, number> = {}
  for (let n = 0; n < 4000; n++) {
    const content = freshText(random)
    const name = `case ${n} of LOCKPACT_SEED=${seed}: ${JSON.stringify(content.toString('latin1').slice(0, 200))}`
    fs.writeFileSync(at(file), content)
    const { mtimeNs, ino } = fs.statSync(at(file), { bigint: true })
    const { state, verdict } = inspectLock(file)
    expect(state, name).not.toBe('free')
    if (verdict !== 'unstamped') expect(state, name).toBe('held')
    expect(caught(() => acquireLockSync(file)), name).toMatchObject({ name: 'LockError', code: 'ELOCKED', verdict })
    if (n % 20 === 0) {
      await expect(releaseLock(file, 'a token'), name).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
      await expect(renewLock(file, 'a token'), name).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
      expect(await sweepLocks(dirname(file)), name).toMatchObject([{ action: 'kept' }])
    }
    expect(fs.readFileSync(at(file)).equals(content), name).toBe(true)
    expect(fs.statSync(at(file), { bigint: true }), name).toMatchObject({ mtimeNs, ino })
    verdicts[verdict!] = (verdicts[verdict!] ?? 0) + 1
    fs.unlinkSync(at(file)) // or the next write would be seen as a change
  }
  // It got everywhere.
  expect(Object.keys(verdicts).sort()).toEqual(['alive', 'foreign', 'out-of-sight', 'unstamped'])
  expect(fs.readdirSync(dirname(file))).toEqual([])
})

test('years old, texts at random that do not begin like a stamp are not taken either', () => {
  const seed = Number(process.env['LOCKPACT_SEED'] ?? Date.now() % 2 ** 31)
  const random = randomOf(seed)
  const file = join(tempFolder(), 'queue.md')
  for (let n = 0; n < 1500; n++) {
    const content = Buffer.concat([Buffer.from(random.pick(['x', '\u0001', '[', '"', '0', '-', '#', '{"V"', '{ "pid"', '{"w":'])), freshText(random)])
    const name = `case ${n} of LOCKPACT_SEED=${seed}: ${JSON.stringify(content.toString('latin1').slice(0, 200))}`
    fs.writeFileSync(at(file), content)
    fs.utimesSync(at(file), YEARS_AGO, YEARS_AGO)
    expect(inspectLock(file), name).toMatchObject({ state: 'held', verdict: 'foreign' })
    expect(caught(() => acquireLockSync(file)), name).toMatchObject({ code: 'ELOCKED', verdict: 'foreign' })
    expect(fs.readFileSync(at(file)).equals(content), name).toBe(true)
    expect(fs.statSync(at(file)).mtimeMs, name).toBe(YEARS_AGO.getTime())
  }
})

test('every beginning of a real stamp is held while it is young', () => {
  const folder = tempFolder()
  const mine = acquireLockSync(join(folder, 'mine.md'), { owner: 'hourly "1"', reason: 'tête à tête', ttl: '1h' })
  const whole = fs.readFileSync(mine.lockFile)
  mine.release()
  const json = whole.toString().trimEnd()
  const file = join(folder, 'queue.md')
  for (let length = 0; length <= whole.length; length++) {
    const torn = whole.subarray(0, length)
    const verdict = length < Buffer.byteLength(json) ? 'unstamped' : 'alive'
    fs.writeFileSync(at(file), torn)
    const { mtimeNs } = fs.statSync(at(file), { bigint: true })
    expect(inspectLock(file), `${length} bytes`).toMatchObject({ verdict, state: 'held' })
    expect(caught(() => acquireLockSync(file)), `${length} bytes`).toMatchObject({ code: 'ELOCKED', verdict })
    expect(fs.readFileSync(at(file)).equals(torn), `${length} bytes`).toBe(true)
    expect(fs.statSync(at(file), { bigint: true }).mtimeNs, `${length} bytes`).toBe(mtimeNs)
    fs.unlinkSync(at(file))
  }
})

// ---- without a stamp ----

const unstamped: Record<string, string> = { empty: '', torn: encode(liveStamp).slice(0, 100), 'one brace': '{', 'NUL bytes': '\0'.repeat(1024), blanks: ' \n' }

test.each(Object.entries(unstamped))('a file without a stamp (%s) is taken at once when it is older than ten minutes, not before', async (_, text) => {
  const file = join(tempFolder(), 'queue.md')
  fs.writeFileSync(at(file), text)
  for (const time of [minutesAgo(0), minutesAgo(9.5), minutesAgo(-60)]) {
    fs.utimesSync(at(file), time, time)
    const { mtimeNs } = fs.statSync(at(file), { bigint: true })
    await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED', verdict: 'unstamped' })
    expect(await sweepLocks(dirname(file))).toMatchObject([{ action: 'kept', verdict: 'unstamped' }])
    expect(fs.readFileSync(at(file), 'utf8')).toBe(text)
    expect(fs.statSync(at(file), { bigint: true }).mtimeNs).toBe(mtimeNs)
  }
  fs.utimesSync(at(file), minutesAgo(10.5), minutesAgo(10.5))
  expect(inspectLock(file)).toMatchObject({ state: 'stale', verdict: 'unstamped' })
  const lock = await acquireLock(file)
  expect(lock.recovered).toBeUndefined()
  await lock.release()
  expect(fs.readdirSync(dirname(file))).toEqual([])
})

test('what has no stamp is free for who has watched it for five seconds, unless it changes meanwhile', async () => {
  const folder = tempFolder()
  /** Waits for a lock; gives what it got and after how long. */
  const wait = async (name: string, wait: number) => {
    const started = performance.now()
    const result = await acquireLock(join(folder, name), { wait, owner: name }).catch((error: { code: string; verdict: string }) => error)
    return { result, ms: performance.now() - started }
  }
  const put = (name: string, text: string) => fs.writeFileSync(join(folder, name), text)
  const nearlyWatched = 3500

  const taken = ['empty.md', 'torn.md', 'guarded.md', 'guarded-twice.md'].map(async (name) => {
    if (name === 'empty.md') put('empty.md.lock', '')
    if (name === 'torn.md') put('torn.md.lock', unstamped['torn']!)
    if (name.startsWith('guarded')) put(`${name}.lock`, encode(deadStamp))
    if (name.startsWith('guarded')) put(`${name}.lock.guard`, name === 'guarded.md' ? '' : encode(deadStamp))
    if (name === 'guarded-twice.md') put(`${name}.lock.guard.guard`, '{"v":')
    const { result, ms } = await wait(name, 20_000)
    expect(result, name).toMatchObject({ held: true })
    expect(ms, name).toBeGreaterThan(4900)
    expect(ms, name).toBeLessThan(12_000)
    expect(await (result as Awaited<ReturnType<typeof acquireLock>>).release(), name).toBe(true)
  })
  const stamped = async () => {
    put('stamped.md.lock', '')
    setTimeout(() => put('stamped.md.lock', encode(liveStamp)), nearlyWatched)
    const { result } = await wait('stamped.md', 9000)
    expect(result).toMatchObject({ code: 'ELOCKED', verdict: 'alive', holder: { owner: 'living' } })
    expect(fs.readFileSync(join(folder, 'stamped.md.lock'), 'utf8')).toBe(encode(liveStamp))
  }
  const changing = async () => {
    put('changing.md.lock', '')
    const writes = setInterval(() => fs.appendFileSync(join(folder, 'changing.md.lock'), ' '), 1000)
    const { result } = await wait('changing.md', 9000)
    clearInterval(writes)
    expect(result).toMatchObject({ code: 'ELOCKED', verdict: 'unstamped' })
  }
  const foreignGuard = async () => {
    put('foreign.md.lock', encode(deadStamp))
    put('foreign.md.lock.guard', 'not a guard of ours')
    const { result } = await wait('foreign.md', 9000)
    expect(result).toMatchObject({ code: 'ELOCKED', verdict: 'guarded' })
    expect(fs.readFileSync(join(folder, 'foreign.md.lock.guard'), 'utf8')).toBe('not a guard of ours')
  }
  const foreignLock = async () => {
    put('cargo.lock', 'not a lock of ours')
    const { result } = await wait('cargo', 9000)
    expect(result).toMatchObject({ code: 'ELOCKED', verdict: 'foreign' })
    expect(fs.readFileSync(join(folder, 'cargo.lock'), 'utf8')).toBe('not a lock of ours')
  }
  const together = async () => {
    put('together.md.lock', '')
    const all = await Promise.all([1, 2, 3].map(() => wait('together.md', 9000)))
    const granted = all.map(({ result }) => result).filter((result) => 'held' in result)
    expect(granted).toHaveLength(1)
    expect(granted[0]).toMatchObject({ held: true })
  }
  await Promise.all([...taken, stamped(), changing(), foreignGuard(), foreignLock(), together()])
})

// ---- guards ----

const foreignKinds = ['words', 'a stamp of version 2', 'a folder with a file', 'a symbolic link to a dead lock', 'a dangling symbolic link', 'a FIFO', 'a long text that begins with blanks']

test.each(foreignKinds)('%s in place of a guard is never removed, years old as it is', async (kind) => {
  const file = join(tempFolder(), 'queue.md')
  const guard = `${at(file)}.guard`
  fs.writeFileSync(at(file), encode(deadStamp))
  foreign[kind]!(guard)
  fs.lutimesSync(guard, YEARS_AGO, YEARS_AGO)
  const before = fingerprint(guard)
  const locked = fingerprint(at(file))
  await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED', verdict: 'guarded', message: expect.stringContaining(guard) })
  expect(caught(() => acquireLockSync(file))).toMatchObject({ code: 'ELOCKED', verdict: 'guarded' })
  expect(await sweepLocks(dirname(file))).toMatchObject([{ lockFile: at(file), action: 'kept' }, { lockFile: guard, action: 'kept', verdict: 'foreign' }])
  expect(fingerprint(guard)).toEqual(before)
  expect(fingerprint(at(file))).toEqual(locked)
})

test('a foreign guard keeps nobody from a free lock; who holds it cannot release, is told, and does so later; break clears both', async () => {
  const folder = tempFolder()
  const file = join(folder, 'queue.md')
  const guard = `${at(file)}.guard`
  fs.writeFileSync(guard, 'not a guard of ours')
  fs.utimesSync(guard, YEARS_AGO, YEARS_AGO)
  const before = fingerprint(guard)
  const lock = await acquireLock(file, { owner: 'mine' })
  const detached = await acquireLock(join(folder, 'detached.md'), { detached: true })
  fs.copyFileSync(guard, `${detached.lockFile}.guard`)
  const blocked = { code: 'ELOCKED', verdict: 'guarded', message: expect.stringContaining('.lock.guard') }
  await Promise.all([
    expect(lock.release()).rejects.toMatchObject(blocked),
    expect(releaseLock(detached.file, detached.token)).rejects.toMatchObject(blocked),
  ])
  expect(fs.existsSync(at(file))).toBe(true)
  expect(fingerprint(guard)).toEqual(before)
  fs.unlinkSync(guard)
  await until(() => !fs.existsSync(at(file)))
  expect(await breakLock(detached.file, { reason: 'a test' })).toMatchObject({ state: 'held', stamp: { id: detached.id } })
  expect(fs.readdirSync(folder)).toEqual([])
})

test('the guard of a dead process is removed at once, that of a living one is respected and named', async () => {
  const file = join(tempFolder(), 'queue.md')
  const guard = `${at(file)}.guard`
  fs.writeFileSync(at(file), encode(deadStamp))
  fs.writeFileSync(guard, encode({ ...liveStamp, owner: undefined }))
  await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED', verdict: 'guarded', message: expect.stringContaining(String(process.pid)) })
  expect(fs.existsSync(guard)).toBe(true)
  fs.writeFileSync(guard, encode({ ...deadStamp, owner: undefined }))
  const lock = await acquireLock(file)
  expect(lock.recovered?.owner).toBe('killed')
  await lock.release()
  expect(fs.readdirSync(dirname(file))).toEqual([])
})

test('a guard out of sight is respected for a minute', async () => {
  const file = join(tempFolder(), 'queue.md')
  const guard = `${at(file)}.guard`
  fs.writeFileSync(at(file), encode(deadStamp))
  fs.writeFileSync(guard, encode({ ...liveStamp, boot: 'another machine' }))
  fs.utimesSync(guard, minutesAgo(0.8), minutesAgo(0.8))
  await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED', verdict: 'guarded' })
  fs.utimesSync(guard, minutesAgo(1.2), minutesAgo(1.2))
  await (await acquireLock(file)).release()
  expect(fs.readdirSync(dirname(file))).toEqual([])
})

test('a held lock is no guard, whatever its file or its folder is called', async () => {
  const folder = join(tempFolder(), 'my.guard')
  for (const name of ['rules.guard.md', 'rules.guard', 'queue.md']) {
    const file = join(folder, name)
    const lock = await acquireLock(file, { detached: true, ttl: '1h' })
    fs.utimesSync(lock.lockFile, minutesAgo(5), minutesAgo(5))
    expect(await sweepLocks(folder), name).toMatchObject([{ lockFile: at(file), action: 'kept', verdict: 'out-of-sight' }])
    expect(fs.existsSync(at(file)), name).toBe(true)
    expect(await lock.release()).toBe(true)
  }
})

// ---- by force ----

test.each(Object.keys(foreign).filter((kind) => !kind.includes('folder')))('breakLock removes %s, and nothing else', async (kind) => {
  const file = join(tempFolder(), 'queue.md')
  foreign[kind]!(at(file))
  const target = fs.lstatSync(at(file)).isSymbolicLink() && fs.existsSync(at(file)) ? fs.realpathSync(at(file)) : undefined
  expect(await breakLock(file, { reason: 'a left-over' })).toMatchObject({ state: 'held', verdict: 'foreign' })
  expect(fs.lstatSync(at(file), { throwIfNoEntry: false })).toBeUndefined()
  if (target) expect(fs.readFileSync(target, 'utf8')).toBe(encode(deadStamp))
  await (await acquireLock(file)).release()
})

test('breakLock leaves a folder, and says so', async () => {
  const file = join(tempFolder(), 'queue.md')
  foreign['a folder with a file']!(at(file))
  const before = fingerprint(at(file))
  await expect(breakLock(file, { reason: 'a left-over' })).rejects.toMatchObject({ name: 'LockError', code: expect.stringMatching(/^(EISDIR|EPERM)$/), message: expect.stringContaining(at(file)) })
  expect(fingerprint(at(file))).toEqual(before)
  expect(fs.readdirSync(dirname(file))).toEqual(['queue.md.lock'])
})

test('breakLock removes a lock that is held, and its holder learns of it', async () => {
  const file = join(tempFolder(), 'queue.md')
  const lock = await acquireLock(file, { owner: 'broken' })
  const told = new Promise((resolve) => lock.signal.addEventListener('abort', resolve))
  expect(await breakLock(file, { reason: 'a test' })).toMatchObject({ state: 'held', verdict: 'alive', stamp: { owner: 'broken' } })
  await Promise.race([told, sleep(10_000).then(() => Promise.reject(new Error('the holder was not told')))])
  expect(lock.held).toBe(false)
  expect(await lock.release()).toBe(false)
})
