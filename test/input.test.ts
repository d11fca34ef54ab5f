/*
 * What people pass in: a wrong argument is refused with words that help, before anything is created; a strange name works.
 */
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { acquireLock, acquireLockSync, breakLock, inspectLock, type AcquireOptions, releaseLock, renewLock, sweepLocks, withLock } from 'lockpact'
import { describe, expect, onTestFinished, test } from 'vitest'
import { GUARD_SUFFIX, MAX_GUARDS } from '../lib/core/protocol.js'
import { encode, STAMP_BYTES, type Stamp } from '../lib/core/stamp.js'
import { system } from '../lib/core/system.js'
import { start, startNode, tempFolder } from './support.js'

const anything = (value: unknown) => value as never

/** Goes into a folder for the rest of the test. */
function enter(folder: string): string {
  const back = process.cwd()
  process.chdir(folder)
  onTestFinished(() => process.chdir(back))
  return folder
}

/** Everything below a folder. */
const below = (folder: string) => fs.readdirSync(folder, { recursive: true }).sort()

async function refusal(call: () => unknown): Promise<Error & { code?: string }> {
  try {
    await call()
  } catch (error) {
    return error as Error
  }
  throw new Error('it was expected to be refused')
}

/** A value in a test's title. */
const shown = (value: unknown) => (typeof value === 'string' ? JSON.stringify(value) : typeof value === 'object' && value !== null ? Object.prototype.toString.call(value) : String(value))

// ---- options ----

/** Asks in all ways for a lock with these options: every one refuses with EINVAL and these words, and creates nothing. */
async function expectRefused(options: unknown, words: RegExp): Promise<void> {
  const folder = tempFolder()
  const resource = join(folder, 'not/yet/queue.md')
  let ran = false
  const ways = {
    acquireLock: () => acquireLock(resource, anything(options)),
    acquireLockSync: () => acquireLockSync(resource, anything(options)),
    withLock: () => withLock(resource, anything(options), () => (ran = true)),
  }
  for (const [way, call] of Object.entries(ways)) {
    const error = await refusal(call)
    expect(error, way).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringMatching(words) })
    expect(error.message, way).not.toContain('\n')
  }
  expect(ran).toBe(false)
  expect(below(folder)).toEqual([])
}

const notDurations = [-1, Number.NaN, -Infinity, '', '5', '5 min', '1w', ' 5s', '5s ', '5s\n', '-5s', '1e3ms', '.5s', '10M', 'Infinity', '5s5s', null, true, {}, [], [5], 5n, Symbol('5s'), () => 5, new Date(5), Object.create(null)]

test.each(notDurations.map((value) => [shown(value), value]))('ttl and wait cannot be %s', async (_, value) => {
  await expectRefused({ ttl: value }, /ttl must be .*'90s'/)
  await expectRefused({ wait: value }, /wait must be .*'90s'/)
})

test.each([0, 1, 199, 199.9, '0s', '0.1s'] as const)('a ttl of %s is too short, and the error says how long it must be', async (ttl) => {
  await expectRefused({ ttl }, /ttl must be at least 200 ms/)
})

test.each([200, 200.5, '0.2s', '90s', '1.5h', '365d', 1e300, Infinity] as const)('a ttl of %s is good', async (ttl) => {
  const file = join(tempFolder(), 'queue.md')
  for (const detached of [false, true]) {
    const lock = await acquireLock(file, { ttl, detached })
    expect(lock.held).toBe(true)
    expect(inspectLock(file)).toMatchObject({ state: 'held', stamp: { id: lock.id } })
    expect(await lock.release()).toBe(true)
  }
})

const labels = [
  ['owner', 120],
  ['reason', 200],
] as const

describe.each(labels)('%s', (label, limit) => {
  test.each([5, null, {}, [], true, Symbol('x'), Object.create(null)].map((value) => [shown(value), value]))('cannot be %s', async (_, value) => {
    await expectRefused({ [label]: value }, new RegExp(`${label} must be a text`))
  })

  test.each(['x'.repeat(limit + 1), 'é'.repeat(limit / 2 + 1), '🔒'.repeat(limit / 4 + 1), '\u0001'.repeat(limit), 'x'.repeat(1e6)])('cannot be longer than it may (case %#)', async (value) => {
    await expectRefused({ [label]: value }, new RegExp(`${label} has \\d+ bytes.* room for ${limit}.*shorter`))
  })

  test.each(['', ' ', 'x'.repeat(limit), 'é'.repeat(limit / 2), '🔒'.repeat(limit / 4), 'two\nlines\r\n', '\u0000\u001b[31mred\u007f', '"quoted" \\ `$(x)`', "it's", '👩‍👩‍👧 e\u0301', 'half \ud83d', '\udd12 half', '__proto__', '\u2028\ufeff\u202e'])('comes back from the stamp as it was given (case %#)', async (value) => {
    const file = join(tempFolder(), 'queue.md')
    const lock = await acquireLock(file, { [label]: value })
    expect(lock.stamp[label]).toBe(value)
    expect(inspectLock(file).stamp?.[label]).toBe(value)
    const text = fs.readFileSync(lock.lockFile, 'utf8')
    expect(text.trimEnd().split('\n')).toHaveLength(1)
    expect(Buffer.byteLength(text)).toBe(STAMP_BYTES)
    await lock.renew()
    expect(inspectLock(file).stamp?.[label]).toBe(value)
    const error = await refusal(() => acquireLock(file))
    expect(error).toMatchObject({ code: 'ELOCKED', holder: { [label]: value } })
    expect(error.message).not.toMatch(/[\0-\x1f]/)
    await lock.release()
  })
})

test('a stamp has room for the longest owner and reason, and for three processes', async () => {
  const file = join(tempFolder(), 'queue.md')
  const others = [start(['sleep', '60']), start(['sleep', '60']), start(['sleep', '60'])]
  const lock = await acquireLock(file, { owner: '"'.repeat(60), reason: '\n'.repeat(100), ttl: '365d' })
  await lock.bind(others[0]!.pid)
  await lock.bind(others[1]!.pid)
  await expect(lock.bind(others[2]!.pid)).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('3 processes') })
  expect(fs.statSync(lock.lockFile).size).toBe(STAMP_BYTES)
  expect(inspectLock(file).stamp?.processes?.map(({ pid }) => pid)).toEqual([process.pid, others[0]!.pid, others[1]!.pid])
  expect(await lock.release()).toBe(true)
})

test.each([0, -1, 1.5, Number.NaN, Infinity, 2 ** 22 + 1, 2 ** 31, 2 ** 32 + process.pid, 2 ** 53, String(process.pid), null, true, {}, [process.pid]].map((pid) => [shown(pid), pid]))('a lock cannot be bound to pid %s', async (_, pid) => {
  await expectRefused({ pid }, /pid must be a living process/)
  const file = join(tempFolder(), 'queue.md')
  const lock = await acquireLock(file)
  const before = fs.readFileSync(lock.lockFile, 'utf8')
  await expect(lock.bind(anything(pid))).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringMatching(/pid must be a living process/) })
  expect(fs.readFileSync(lock.lockFile, 'utf8')).toBe(before)
  expect(await lock.release()).toBe(true)
})

test('a lock cannot be bound to a process that has ended', async () => {
  await expectRefused({ pid: spawnSync('true').pid }, /pid must be a living process/)
})

test.runIf(process.platform === 'linux')('a lock cannot be bound to a zombie', async () => {
  // The shell becomes a sleep, which never asks how its child ended.
  const parent = start(['sh', '-c', 'sleep 0.3 & echo $!; exec sleep 60'])
  const zombie = Number(await parent.line())
  const isZombie = () => fs.readFileSync(`/proc/${zombie}/stat`, 'latin1').includes(') Z ')
  await expect.poll(isZombie, { timeout: 10_000 }).toBe(true)
  await expectRefused({ pid: zombie }, /pid must be a living process/)
})

test.each([5, '', null, true, {}].map((token) => [shown(token), token]))('a token cannot be %s', async (_, token) => {
  await expectRefused({ token }, /token must be the text that acquireLock gave/)
  const file = join(tempFolder(), 'queue.md')
  for (const call of [renewLock, releaseLock]) expect(await refusal(() => call(file, anything(token)))).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringMatching(/token must be the text that acquireLock gave/) })
  expect(below(dirname(file))).toEqual([])
})

test('renewLock and releaseLock cannot do without a token', async () => {
  for (const call of [renewLock, releaseLock]) expect(await refusal(() => call('queue.md', anything(undefined)))).toMatchObject({ name: 'LockError', code: 'EINVAL' })
})

test.each([[{ pid: process.pid, detached: false }, /detached/], [null, /options/], ['10s', /options/], [5, /options/]])('options that make no sense are refused (case %#)', async (options, words) => {
  await expectRefused(options, words)
})

test.each([null, 0, '', 'false', 1].map((renew) => [shown(renew), renew]))('renew cannot be %s', async (_, renew) => {
  await expectRefused({ renew }, /renew must be/)
})

test.each([{}, 'abort', 5].map((signal) => [shown(signal), signal]))('signal cannot be %s', async (_, signal) => {
  await expectRefused({ signal }, /signal must be/)
})

test.each(['', 5, null, {}, 'a\0b'].map((lockFile) => [shown(lockFile), lockFile]))('lockFile cannot be %s', async (_, lockFile) => {
  await expectRefused({ lockFile }, /lockFile must/)
})

test('options that are no object are refused by those who look and clear up, too', async () => {
  const file = join(tempFolder(), 'queue.md')
  const calls = [() => inspectLock(file, anything(null)), () => renewLock(file, 'token', anything(null)), () => releaseLock(file, 'token', anything(null)), () => sweepLocks(dirname(file), anything(null))]
  for (const call of calls) expect(await refusal(call), String(call)).toMatchObject({ name: 'LockError', code: 'EINVAL' })
})

test('withLock needs a function', async () => {
  const file = join(tempFolder(), 'queue.md')
  for (const fn of [undefined, null, 'fn', {}]) expect(await refusal(() => withLock(file, {}, anything(fn)))).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('function') })
  expect(await refusal(() => withLock(file, anything({})))).toMatchObject({ name: 'LockError', code: 'EINVAL' })
  expect(below(dirname(file))).toEqual([])
})

test('breakLock needs a reason', async () => {
  const file = join(tempFolder(), 'queue.md')
  const lock = await acquireLock(file)
  for (const options of [undefined, null, {}, { reason: '' }, { reason: ' ' }, { reason: 5 }]) expect(await refusal(() => breakLock(file, anything(options)))).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('reason') })
  expect(await lock.release()).toBe(true)
})

test('sweepLocks needs a folder', async () => {
  const folder = enter(tempFolder())
  fs.writeFileSync('queue.md.lock', '')
  fs.utimesSync('queue.md.lock', 0, 0)
  for (const wrong of ['', undefined, null, 5, {}, 'a\0b']) expect(await refusal(() => sweepLocks(anything(wrong))), shown(wrong)).toMatchObject({ name: 'LockError', code: 'EINVAL' })
  expect(await refusal(() => sweepLocks('missing'))).toMatchObject({ name: 'LockError', code: 'ENOENT', message: expect.stringContaining('missing') })
  expect(below(folder)).toEqual(['queue.md.lock'])
})

// ---- resources ----

const badResources: [unknown, RegExp][] = [
  ['', /resource must be a path, not an empty text/],
  ...[undefined, null, 5, {}, [], true, Symbol('queue.md'), Object.create(null), Buffer.from('queue.md'), new URL('file:///queue.md')].map((value): [unknown, RegExp] => [value, /resource must be a path/]),
  ['queue\0.md', /NUL/],
  ['/', /root folder/],
  ['//', /root folder/],
  ['/.', /root folder/],
  ['/..', /root folder/],
  ['/::part', /root folder/],
  ['queue.md::', /part is missing after '::'/],
  // The same words behind a folder's path would be a part of that folder.
  ['::head', /'::'/],
  ['::', /'::'/],
  ['queue.md::half \ud83d', /well-formed/],
  ['name:', /free name is missing after 'name:'/],
  ['name:half \ud83d', /well-formed/],
  ['loop', /too many symbolic links/],
  [`${'x'.repeat(250)}`, /bytes too long.*lockFile/],
  [`queue.md::${'%'.repeat(90)}`, /bytes too long.*lockFile/],
  [`name:${'x'.repeat(250)}`, /bytes too long.*lockFile/],
]

test.each(badResources.map(([resource, words]) => [shown(resource).slice(0, 30), resource, words] as const))('%s cannot be locked, nor asked about', async (_, resource, words) => {
  const folder = enter(tempFolder())
  fs.symlinkSync('loop', 'loop')
  fs.mkdirSync('.lockpact')
  const bad = anything(resource)
  const ways = {
    acquireLock: () => acquireLock(bad),
    acquireLockSync: () => acquireLockSync(bad),
    withLock: () => withLock(bad, () => {}),
    inspectLock: () => inspectLock(bad),
    renewLock: () => renewLock(bad, 'token'),
    releaseLock: () => releaseLock(bad, 'token'),
    breakLock: () => breakLock(bad, { reason: 'a test' }),
  }
  for (const [way, call] of Object.entries(ways)) expect(await refusal(call), way).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringMatching(words) })
  expect(below(folder)).toEqual(['.lockpact', 'loop'])
})

/** Takes, renews, refuses, shows and releases: nothing is left. */
async function live(resource: string, options: AcquireOptions = {}): Promise<string> {
  const { lockFile } = options
  const place = lockFile === undefined ? {} : { lockFile }
  const lock = await acquireLock(resource, options)
  expect(fs.lstatSync(lock.lockFile).isFile()).toBe(true)
  expect(inspectLock(resource, place)).toMatchObject({ state: 'held', verdict: 'alive', stamp: { id: lock.id } })
  const error = await refusal(() => acquireLock(resource, place))
  expect(error).toMatchObject({ code: 'ELOCKED' })
  await lock.renew()
  expect(await lock.release()).toBe(true)
  expect(inspectLock(resource, place).state).toBe('free')
  return lock.lockFile
}

const names = ['a b.md', ' lead', 'trail ', "it's \"q\".md", 'back\\slash', 'new\nline.md', '-rf', '--help', '50%.md', '%2F', '%', '@', '@head', 'a@b.lock', '*', '?', '$(touch x)', '`x`', '~', '#', '日本.md', 'e\u0301', '🔒', '.hidden', '...', 'x.lock', 'x.lock.guard', 'C:', 'a:b', 'a::b::c', '__proto__', '\u001b[31m']

test.each(names)('a file may be called %j', async (name) => {
  const folder = enter(tempFolder())
  const part = /^(.+)::(.+)$/.exec(name)
  const expected = join(folder, part ? `${part[1]}@${encodeURIComponent(part[2]!)}.lock` : `${name}.lock`)
  expect(await live(name)).toBe(expected)
  expect(await live(join(folder, name))).toBe(expected)
  expect(below(folder)).toEqual([])
})

test('a name with line breaks stays on one line in messages', async () => {
  const file = join(tempFolder(), 'new\nline\u001b[31m.md')
  const lock = await acquireLock(file)
  expect((await refusal(() => acquireLock(file))).message).not.toMatch(/[\n\u001b]/)
  await lock.release()
})

test('a part is one name in the folder of its file, whatever is in it', async () => {
  const folder = enter(tempFolder())
  const parts: Record<string, string> = { head: 'head', 'a b': 'a%20b', '..': '%2E.', '.x': '%2Ex', '50%': '50%25', 'a@b': 'a%40b', '*': '%2A', 'é': '%C3%A9' }
  for (const [part, encoded] of Object.entries(parts)) expect(await live(`queue.md::${part}`)).toBe(join(folder, `queue.md@${encoded}.lock`))
  // A separator after the colons makes them a part of a folder's name.
  expect(await live('x::y/queue.md')).toBe(join(folder, 'x::y', 'queue.md.lock'))
})

test('parts exclude the same part, not another part and not the file', async () => {
  const file = join(tempFolder(), 'queue.md')
  const locks = [await acquireLock(file), await acquireLock(`${file}::head`), await acquireLock(`${file}::tail`)]
  await expect(acquireLock(`${file}::head`)).rejects.toMatchObject({ code: 'ELOCKED' })
  for (const lock of locks) expect(await lock.release()).toBe(true)
})

// ---- one file, one lock ----

test('all spellings of a file lead to one lock', async () => {
  const folder = enter(tempFolder())
  fs.mkdirSync('dir/sub', { recursive: true })
  fs.writeFileSync('dir/queue.md', '')
  fs.symlinkSync('dir', 'linked')
  fs.symlinkSync('dir/queue.md', 'link.md')
  fs.symlinkSync(join(folder, 'link.md'), 'chain.md')
  fs.symlinkSync('../queue.md', 'dir/sub/up.md')
  fs.symlinkSync('dir/sub', 'deep')
  const spellings = ['dir/queue.md', './dir/queue.md', 'dir//queue.md', 'dir/./queue.md', 'dir/sub/../queue.md', join(folder, 'dir/queue.md'), `/${folder}/dir/queue.md`, 'linked/queue.md', 'link.md', 'chain.md', './linked/../linked/queue.md', 'dir/sub/up.md', 'deep/../queue.md', 'deep/up.md']
  const lock = await acquireLock('dir/queue.md')
  expect(lock.file).toBe(join(folder, 'dir/queue.md'))
  for (const spelling of spellings) {
    expect(inspectLock(spelling), spelling).toMatchObject({ lockFile: lock.lockFile, file: lock.file, state: 'held' })
    expect(inspectLock(`${spelling}::head`).lockFile, spelling).toBe(join(folder, 'dir/queue.md@head.lock'))
    await expect(acquireLock(spelling), spelling).rejects.toMatchObject({ code: 'ELOCKED' })
  }
  expect(await lock.release()).toBe(true)
})

test('so do symbolic links to a file that does not exist yet', async () => {
  const folder = enter(tempFolder())
  fs.symlinkSync('later/queue.md', 'dangling.md')
  fs.symlinkSync('dangling.md', 'chain.md')
  fs.symlinkSync('later', 'linked')
  const lock = await acquireLock('chain.md')
  expect(lock.lockFile).toBe(join(folder, 'later/queue.md.lock'))
  for (const spelling of ['dangling.md', 'linked/queue.md', 'later/queue.md']) expect(inspectLock(spelling), spelling).toMatchObject({ state: 'held', lockFile: lock.lockFile })
  await lock.release()
})

test("a folder has its lock beside it, also as '.', '..' and with a slash at its end", () => {
  const folder = tempFolder()
  fs.mkdirSync(join(folder, 'memory/sub'), { recursive: true })
  enter(join(folder, 'memory'))
  const expected = join(folder, 'memory.lock')
  for (const spelling of ['.', './', '../memory', '../memory/', '../memory//', 'sub/..', 'sub/../', `${folder}/memory/.`]) expect(inspectLock(spelling).lockFile, spelling).toBe(expected)
  expect(inspectLock('..').lockFile).toBe(`${folder}.lock`)
})

test('hard links to one file have separate locks: a named limit', async () => {
  const folder = enter(tempFolder())
  fs.writeFileSync('queue.md', '')
  fs.linkSync('queue.md', 'other.md')
  const one = await acquireLock('queue.md')
  const two = await acquireLock('other.md')
  expect([one.lockFile, two.lockFile]).toEqual([join(folder, 'queue.md.lock'), join(folder, 'other.md.lock')])
  await one.release()
  await two.release()
})

test('a lock stays where it was taken when the process goes to another folder', async () => {
  const folder = enter(tempFolder())
  fs.mkdirSync('elsewhere')
  const lock = await acquireLock('queue.md')
  const sync = acquireLockSync('sync.md')
  process.chdir('elsewhere')
  await lock.renew()
  expect(lock.file).toBe(join(folder, 'queue.md'))
  expect(inspectLock('queue.md').state).toBe('free')
  expect(inspectLock('../queue.md').state).toBe('held')
  expect(await lock.release()).toBe(true)
  expect(sync.release()).toBe(true)
  expect(below(folder)).toEqual(['elsewhere'])
})

test('in a folder that has been removed, a relative name is an error, not a crash', async () => {
  const child = startNode(`
    const fs = await import('node:fs')
    fs.mkdirSync('gone'); process.chdir('gone'); fs.rmdirSync('../gone')
    for (const call of [() => acquireLock('queue.md'), () => inspectLock('queue.md'), () => sweepLocks('.')]) {
      try { await call(); say('granted') } catch (error) { say(isLockError(error) ? error.code : String(error)) }
    }`, { cwd: tempFolder() })
  expect([await child.line(), await child.line(), await child.line()]).toEqual(['ENOENT', 'ENOENT', 'ENOENT'])
  expect((await child.ended).code).toBe(0)
})

test('missing folders are created by who takes a lock, by nobody else', async () => {
  const folder = tempFolder()
  const file = join(folder, 'not/yet/queue.md')
  expect(inspectLock(file)).toMatchObject({ state: 'free' })
  expect(await refusal(() => renewLock(file, 'token')), 'renew').toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED' })
  expect(await refusal(() => releaseLock(file, 'token')), 'release').toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED' })
  expect(await breakLock(file, { reason: 'a test' })).toMatchObject({ state: 'free' })
  expect(below(folder)).toEqual([])
  await (await acquireLock(file)).release()
  expect(below(folder)).toEqual(['not', 'not/yet'])
})

test('a lock whose folder was removed is lost: release says false, and creates nothing', async () => {
  const folder = tempFolder()
  const lock = await acquireLock(join(folder, 'memory/queue.md'))
  const sync = acquireLockSync(join(folder, 'memory/sync.md'))
  fs.rmSync(join(folder, 'memory'), { recursive: true })
  expect(await lock.release()).toBe(false)
  expect(sync.release()).toBe(false)
  expect(below(folder)).toEqual([])
})

// ---- long names ----

// Whoever sweeps goes one guard deeper.
const LONGEST = 255 - '.lock'.length - (MAX_GUARDS + 1) * GUARD_SUFFIX.length
/** A text of so many bytes, of characters that have several. */
const longText = (bytes: number, character: string) => character.repeat(Math.floor(bytes / Buffer.byteLength(character))) + 'x'.repeat(bytes % Buffer.byteLength(character))

describe.each(['x', 'é', '日', '🔒'])('a name of %s as long as it may be', (character) => {
  test('lives its whole life, also when every guard of it was left behind', async () => {
    const file = join(tempFolder(), longText(LONGEST, character))
    await live(file)
    const { boot, pidns, timens, host } = system.machine()
    const dead: Stamp = { v: 1, id: '00000000deadbeef', owner: 'killed', processes: [{ pid: process.pid, start: '1' }], boot, pidns, timens, host }
    const leaveBehind = (guards: number) => {
      for (let level = 0; level <= guards; level++) fs.writeFileSync(`${file}.lock${GUARD_SUFFIX.repeat(level)}`, encode(dead))
    }
    leaveBehind(MAX_GUARDS)
    expect((await refusal(() => acquireLock(file))).message).toContain('lockpact sweep')
    expect((await sweepLocks(dirname(file))).map(({ action }) => action)).not.toContain('kept')
    expect(below(dirname(file))).toEqual([])
    leaveBehind(MAX_GUARDS - 1)
    const lock = await acquireLock(file)
    expect(lock.recovered?.owner).toBe('killed')
    expect(await lock.release()).toBe(true)
    expect(below(dirname(file))).toEqual([])
  })

  test('and one byte more is refused before anything is created', async () => {
    const folder = tempFolder()
    const file = join(folder, 'not-yet', longText(LONGEST + 1, character))
    const ways = [() => acquireLock(file), () => acquireLockSync(file), () => inspectLock(file), () => releaseLock(file, 'token'), () => breakLock(file, { reason: 'a test' })]
    for (const call of ways) expect(await refusal(call)).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringMatching(/1 bytes? too long.*lockFile/) })
    expect(below(folder)).toEqual([])
  })

  test('or longer can be locked by a file of another name', async () => {
    const folder = tempFolder()
    const file = join(folder, longText(255, character))
    fs.writeFileSync(file, '')
    expect(await live(file, { lockFile: join(folder, 'locks/one.lock') })).toBe(join(folder, 'locks/one.lock'))
  })
})

test('the encoded part counts', async () => {
  const folder = enter(tempFolder())
  const room = LONGEST - 'queue.md@'.length
  await live(`queue.md::${'%'.repeat(Math.floor(room / 3))}${'x'.repeat(room % 3)}`)
  expect(await refusal(() => acquireLock(`queue.md::${'%'.repeat(Math.floor(room / 3))}${'x'.repeat((room % 3) + 1)}`))).toMatchObject({ code: 'EINVAL' })
  expect(below(folder)).toEqual([])
})

test('a long path of short names works', async () => {
  const folder = tempFolder()
  const file = join(folder, ...Array.from({ length: 18 }, () => 'x'.repeat(200)), 'queue.md')
  await live(file)
})

// ---- free names ----

test('a free name needs a workspace, and the error says how to get one', async () => {
  enter(tempFolder())
  for (const call of [() => acquireLock('name:deploy'), () => inspectLock('name:deploy')]) {
    expect(await refusal(call)).toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringMatching(/\.lockpact.*LOCKPACT_DIR/) })
  }
  expect(below('.')).toEqual([])
})

test('the workspace is the nearest folder upwards that has .lockpact, or LOCKPACT_DIR', async () => {
  const folder = tempFolder()
  fs.mkdirSync(join(folder, 'outer/.lockpact'), { recursive: true })
  fs.mkdirSync(join(folder, 'outer/a/b'), { recursive: true })
  fs.mkdirSync(join(folder, 'other'))
  enter(join(folder, 'outer/a/b'))
  expect(await live('name:deploy')).toBe(join(folder, 'outer/.lockpact/locks/deploy.lock'))
  fs.mkdirSync('.lockpact')
  expect(inspectLock('name:deploy')).toMatchObject({ file: 'name:deploy', lockFile: join(folder, 'outer/a/b/.lockpact/locks/deploy.lock') })
  const before = process.env['LOCKPACT_DIR']
  onTestFinished(() => void (before === undefined ? delete process.env['LOCKPACT_DIR'] : (process.env['LOCKPACT_DIR'] = before)))
  // Mistyped, it would be a second workspace, of which nobody else knows.
  process.env['LOCKPACT_DIR'] = '../../../other'
  expect(await refusal(() => acquireLock('name:deploy'))).toMatchObject({ code: 'EINVAL', message: expect.stringMatching(/LOCKPACT_DIR is .*other.*lockpact init/) })
  fs.mkdirSync(join(folder, 'other/.lockpact'))
  for (const told of [join(folder, 'other'), '../../../other']) {
    process.env['LOCKPACT_DIR'] = told
    expect(await live('name:deploy')).toBe(join(folder, 'other/.lockpact/locks/deploy.lock'))
  }
  process.env['LOCKPACT_DIR'] = ''
  expect(inspectLock('name:deploy').lockFile).toBe(join(folder, 'outer/a/b/.lockpact/locks/deploy.lock'))
})

test.each(['..', '../../deploy', '/etc/passwd', 'a/b', 'a\\b', '.', '.hidden', '~', '*', 'a b', 'a\nb', '-rf', '50%', 'é', 'a::b', 'x.lock', 'x.lock.guard', 'name:'])('the free name %j is one file in the folder of locks', async (name) => {
  const folder = enter(tempFolder())
  fs.mkdirSync('.lockpact')
  const lockFile = await live(`name:${name}`)
  expect(dirname(lockFile)).toBe(join(folder, '.lockpact/locks'))
  expect(decodeURIComponent(basename(lockFile))).toBe(`${name}.lock`)
  expect(basename(lockFile)).not.toMatch(/^\.|[/\\*\s]/)
  expect(below(folder)).toEqual(['.lockpact', '.lockpact/locks'])
})

test('a free name is missing also when another lock file is given', async () => {
  const folder = enter(tempFolder())
  expect(await refusal(() => acquireLock('name:', { lockFile: 'x.lock' }))).toMatchObject({ name: 'LockError', code: 'EINVAL' })
  expect(below(folder)).toEqual([])
})
