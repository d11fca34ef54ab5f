/* Killed at every call, as SQLite's crash tests do it; then what the machine refuses. */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { acquireLock } from 'lockpact'
import { expect, test } from 'vitest'
import { appendLine, finishItem, tailLines, takeItem, updateFile } from '../dist/files.js'
import { fillBlocks, fillInodes, remount, smallDisk } from './disk.js'
import { besides, startFiles } from './files-support.js'
import { asNobody, lacks } from './remote.js'
import { start, tempFolder } from './support.js'

// ---- killed ----

/**
 * Kills this process before its n-th call, counted from when it has the file's lock (how locks are taken is not the matter here);
 * `half`: in the middle of its n-th write. Not between the creation of a guard and its stamp: what follows then takes five seconds.
 */
const KILLER = `
const calls = process.getBuiltinModule('node:fs')
let count = 0
let creating
function die() { process.kill(process.pid, 'SIGKILL'); for (;;); }
function writeHalf(call, [to, bytes, at]) {
  call(to, bytes.subarray(0, bytes.length >> 1), at)
  die()
}
function killAt(n, half) {
  for (const name of Object.keys(calls).filter((name) => name.endsWith('Sync') && !['existsSync', 'accessSync'].includes(name))) {
    const call = calls[name]
    calls[name] = Object.assign((...args) => {
      const isOurs = half ? name.startsWith('write') && typeof args[1] !== 'string' : creating === undefined
      if (isOurs && ++count === n) half ? writeHalf(call, args) : die()
      const result = call(...args)
      if (name === 'openSync' && /\\.lock/.test(args[0]) && args[1] & fs.constants.O_CREAT) creating = result
      if (name === 'closeSync' && args[0] === creating) creating = undefined
      return result
    }, call)
  }
}
`

interface Ladder {
  name: string
  /** Before each rung. */
  prepare(folder: string): void
  /** What is killed. */
  work: string
  /** What has to hold afterwards; then the next call is made. */
  check(folder: string): Promise<void>
  /** What may be there in the end. */
  files: RegExp
}

const text = (folder: string, name: string) => fs.readFileSync(join(folder, name), 'utf8')
const OLD = 'old '.repeat(1000)
const NEW = 'new '.repeat(1000)
const words = (line: string) => line.replace(/^\S+Z /, '')

const LADDERS: Ladder[] = [
  {
    name: 'updateFile',
    prepare: (folder) => fs.writeFileSync(join(folder, 'a.md'), OLD),
    work: `await updateFile('a.md', () => ${JSON.stringify(NEW)}, { onEvent })`,
    async check(folder) {
      expect([OLD, NEW]).toContain(text(folder, 'a.md'))
      await updateFile(join(folder, 'a.md'), (now) => `${now}!`, { wait: '1s', fsync: false })
      expect([`${OLD}!`, `${NEW}!`]).toContain(text(folder, 'a.md'))
    },
    files: /^a\.md$/,
  },
  {
    name: 'updateFile under a lock',
    prepare: (folder) => fs.writeFileSync(join(folder, 'a.md'), OLD),
    work: `const lock = await acquireLock('a.md'); await updateFile('a.md', () => ${JSON.stringify(NEW)}, { lock, onEvent, fsync: false }); await lock.release()`,
    async check(folder) {
      expect([OLD, NEW]).toContain(text(folder, 'a.md'))
      await updateFile(join(folder, 'a.md'), (now) => `${now}!`, { wait: '1s', fsync: false })
    },
    files: /^a\.md$/,
  },
  {
    name: 'appendLine, which rotates',
    prepare(folder) {
      for (const [name, line] of [['log.md', '4'], ['log.1.md', '3'], ['log.2.md', '2'], ['log.3.md', '1']] as const) fs.writeFileSync(join(folder, name), `${line}\n`)
    },
    work: `await appendLine('log.md', '5', { onEvent, rotate: { bytes: 1 } })`,
    async check(folder) {
      const seen = (await tailLines(join(folder, 'log.md'), 10)).map(words).join('')
      expect(['1234', '12345']).toContain(seen)
      await appendLine(join(folder, 'log.md'), '6', { wait: '1s', rotate: { bytes: 1 } })
      expect((await tailLines(join(folder, 'log.md'), 10)).map(words).join('')).toBe(`${seen}6`)
    },
    files: /^log(\.[1-6])?\.md$/,
  },
]

for (const { name, prepare, work, check, files } of LADDERS) {
  test(`${name}, killed at any call, leaves the old or the new, and nothing that the next does not clear away`, async () => {
    let killed = 0
    const left = new Set<string>()
    const climb = async (n: number, half: boolean): Promise<boolean> => {
      const folder = tempFolder()
      prepare(folder)
      const child = startFiles(`${KILLER}\nconst onEvent = ({ type }) => { if (type === 'acquired') killAt(${n}, ${half}) }\n${work}\nsay('done')`, { cwd: folder })
      const { signal } = await child.ended
      if (signal === null) expect(child.out(), child.err().slice(-400)).toBe('done\n')
      else killed++
      for (const file of besides(folder)) if (!files.test(file)) left.add(file.replace(/[0-9a-f]{16}/, 'ID'))
      await check(folder)
      expect(fs.readdirSync(folder).filter((file) => !files.test(file)), `killed at call ${n}`).toEqual([])
      return signal !== null
    }
    for (const half of [false, true]) {
      // Until it survives.
      for (let n = 1, alive = false; !alive; n += 3) alive = (await Promise.all([n, n + 1, n + 2].map((n) => climb(n, half)))).includes(false)
    }
    expect(killed).toBeGreaterThan(20)
    console.log(`ladder: ${name}: killed at ${killed} calls; left, and cleared away: ${[...left].sort().join(', ')}`)
    expect([...left].some((file) => /\.(tmp|add)$/.test(file))).toBe(true)
  })
}

// ---- refused ----

const refusal = (code: string) => ({ name: 'LockError', code, message: expect.stringContaining(code) })
const QUEUE = '- [ ] one\n- [ ] two\n'

function workOn(folder: string): { each: [string, () => Promise<unknown>][]; asBefore(): void } {
  const paths = { roster: join(folder, 'roster.md'), log: join(folder, 'log.md'), queue: join(folder, 'queue.md') }
  const texts = { roster: 'x'.repeat(1500), log: 'one\n', queue: QUEUE }
  for (const name of ['roster', 'log', 'queue'] as const) fs.writeFileSync(paths[name], texts[name])
  return {
    each: [
      ['updateFile', () => updateFile(paths.roster, (text) => text.repeat(40), { wait: 0 })],
      ['appendLine', () => appendLine(paths.log, 'y'.repeat(60_000), { wait: 0 })],
      ['rotation', () => appendLine(paths.log, 'y'.repeat(60_000), { wait: 0, rotate: { bytes: 5 } })],
      ['takeItem', () => takeItem(paths.queue, { wait: 0 })],
      ['finishItem', () => finishItem(paths.queue, 'token', { wait: 0 })],
      ['a new file', () => updateFile(join(folder, 'new.md'), () => 'x', { wait: 0 })],
      ['a new log', () => appendLine(join(folder, 'new.log'), 'x', { wait: 0 })],
    ],
    asBefore() {
      for (const name of ['roster', 'log', 'queue'] as const) expect(fs.readFileSync(paths[name], 'utf8')).toBe(texts[name])
      expect(besides(folder, 'roster.md', 'log.md', 'queue.md', 'filler')).toEqual([])
    },
  }
}

test('on a read-only disk nothing is changed, and each says so; reading works', async (context) => {
  const disk = smallDisk(context)
  const { each, asBefore } = workOn(disk)
  remount(disk, 'ro')
  for (const [name, call] of each) await expect(call(), name).rejects.toMatchObject(refusal('EROFS'))
  expect(await tailLines(join(disk, 'log.md'))).toEqual(['one'])
  asBefore()
  remount(disk, 'rw')
  expect((await takeItem(join(disk, 'queue.md')))?.item.text).toBe('one')
})

test('on a full disk nothing is changed, nothing is left, and each says so; with space it goes on', async (context) => {
  const disk = smallDisk(context)
  const { each, asBefore } = workOn(disk)
  const filler = fillBlocks(disk)
  for (const [name, call] of each) {
    await expect(call(), name).rejects.toMatchObject(refusal('ENOSPC'))
    asBefore()
  }
  fs.rmSync(filler)
  expect((await takeItem(join(disk, 'queue.md')))?.item.text).toBe('one')
})

test.for([4, 8, 16, 24, 32, 40])('on a disk with room for %s kB: all or nothing, also of a line', async (room, context) => {
  const disk = smallDisk(context)
  const { each, asBefore } = workOn(disk)
  const filler = fillBlocks(disk)
  fs.truncateSync(filler, fs.statSync(filler).size - room * 1024)
  // Rotation is a change by itself; what is new fits.
  for (const [name, call] of each.slice(0, 2)) {
    await expect(call(), name).rejects.toMatchObject(refusal('ENOSPC'))
    asBefore()
  }
})

test('under a lock that is held, a full disk changes nothing either', async (context) => {
  const disk = smallDisk(context)
  const file = join(disk, 'roster.md')
  fs.writeFileSync(file, 'one\n')
  const lock = await acquireLock(file)
  const filler = fillBlocks(disk)
  await expect(updateFile(file, () => 'two', { lock })).rejects.toMatchObject(refusal('ENOSPC'))
  await expect(appendLine(file, 'x'.repeat(2000), { lock })).rejects.toMatchObject(refusal('ENOSPC'))
  expect([fs.readFileSync(file, 'utf8'), besides(disk, 'filler', 'roster.md')]).toEqual(['one\n', ['roster.md.lock']])
  fs.rmSync(filler)
  await updateFile(file, () => 'two', { lock })
  await lock.release()
  expect([fs.readFileSync(file, 'utf8'), besides(disk)]).toEqual(['two', ['roster.md']])
})

test('without inodes nothing is changed, and each says so', async (context) => {
  const disk = smallDisk(context, ['-N', '32'])
  const { each } = workOn(disk)
  const filler = fillInodes(disk)
  for (const [name, call] of each) await expect(call(), name).rejects.toMatchObject(refusal('ENOSPC'))
  fs.rmSync(filler)
  expect(fs.readFileSync(join(disk, 'queue.md'), 'utf8')).toBe(QUEUE)
  expect(fs.readdirSync(disk).filter((name) => !/^filler|^\w+\.md$/.test(name))).toEqual([])
})

test('a torn line that the full disk has no room for is completed when there is', async (context) => {
  const disk = smallDisk(context)
  const log = join(disk, 'log.md')
  const line = `2026-11-20T09:00:00Z ${'z'.repeat(30_000)}\n`
  fs.writeFileSync(log, `one\n${line.slice(0, 100)}`)
  const note = join(disk, '.log.md.0123456789abcdef.4.add')
  fs.writeFileSync(note, line)
  const filler = fillBlocks(disk)
  // Room for the lock and a part of the line.
  fs.truncateSync(filler, fs.statSync(filler).size - 10 * 1024)
  await expect(appendLine(log, 'next')).rejects.toMatchObject(refusal('ENOSPC'))
  expect(fs.existsSync(note)).toBe(true)
  expect(`one\n${line}`.startsWith(fs.readFileSync(log, 'utf8'))).toBe(true)
  fs.rmSync(filler)
  const next = await appendLine(log, 'next')
  expect([fs.readFileSync(log, 'utf8'), besides(disk)]).toEqual([`one\n${line}${next}\n`, ['log.md']])
})

test('in a folder where one may not write nothing is changed, and each says so', async ({ skip }) => {
  skip(lacks.nobody !== '', lacks.nobody)
  const folder = tempFolder()
  fs.chmodSync(folder, 0o755)
  fs.writeFileSync(join(folder, 'queue.md'), QUEUE, { mode: 0o666 })
  fs.chmodSync(join(folder, 'queue.md'), 0o666)
  const filesUrl = new URL('../dist/files.js', import.meta.url).href
  const child = start([
    ...asNobody,
    process.execPath,
    '--input-type=module',
    '-e',
    `const { appendLine, takeItem, updateFile } = await import(${JSON.stringify(filesUrl)})
process.chdir(${JSON.stringify(folder)})
for (const call of [() => updateFile('queue.md', () => 'x'), () => appendLine('queue.md', 'x'), () => takeItem('queue.md'), () => updateFile('sub/new.md', () => 'x')])
  console.log(await call().then(() => 'done', ({ name, code, message }) => [name, code, /not permitted/.test(message)].join()))`,
  ])
  for (let n = 0; n < 4; n++) expect(await child.line()).toBe('LockError,EACCES,true')
  expect([fs.readFileSync(join(folder, 'queue.md'), 'utf8'), besides(folder)]).toEqual([QUEUE, ['queue.md']])
})
