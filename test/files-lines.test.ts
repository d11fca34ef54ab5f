/* `appendLine` and `tailLines`. */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { acquireLock } from 'lockpact'
import { describe, expect, test } from 'vitest'
import { appendLine, tailLines, updateFile } from '../dist/files.js'
import { archiveOf, shift } from '../lib/files/lines.js'
import { besides } from './files-support.js'
import { asNobody, lacks } from './remote.js'
import { start, tempFolder } from './support.js'

const STAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ /
const read = (path: string) => fs.readFileSync(path, 'utf8')
const unstamped = (text: string) => text.replaceAll(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ /gm, '')

function logWith(text: string, name = 'log.md'): { folder: string; file: string } {
  const folder = tempFolder()
  const file = join(folder, name)
  fs.writeFileSync(file, text)
  return { folder, file }
}

describe('appendLine', () => {
  test('stamps a line with the time in UTC, and gives it as it is in the file', async () => {
    const { folder, file } = logWith('')
    const from = Math.floor(Date.now() / 1000) * 1000
    const line = await appendLine(file, 'hourly: shipped the reply')
    expect(line).toMatch(STAMP)
    expect(read(file)).toBe(`${line}\n`)
    const at = Date.parse(line.slice(0, 20))
    expect(at >= from && at <= Date.now()).toBe(true)
    expect(unstamped(line)).toBe('hourly: shipped the reply')
    expect(besides(folder, 'log.md')).toEqual([])
  })

  test('creates a missing file and its folder', async () => {
    const file = join(tempFolder(), 'a', 'log.md')
    await appendLine(file, '')
    expect(unstamped(read(file))).toBe('\n')
  })

  test.each([
    ['\\n', 'one\n', 'one\nx\n'],
    ['\\r\\n', 'one\r\n', 'one\r\nx\r\n'],
    ['\\r\\n, and the last one open', 'one\r\ntwo', 'one\r\ntwo\r\nx\r\n'],
    ['the last one open', 'one\ntwo', 'one\ntwo\nx\n'],
    ['only one, and that open', 'one', 'one\nx\n'],
    ['\\r\\n, and then \\n', 'one\r\ntwo\n', 'one\r\ntwo\nx\n'],
    ['a blank one', '\n', '\nx\n'],
    ['a blank one with \\r\\n', '\r\n', '\r\nx\r\n'],
    ['a byte order mark', '\uFEFF', '\uFEFF\nx\n'],
    ['a long one, closed', `${'o'.repeat(10_000)}\r\n`, `${'o'.repeat(10_000)}\r\nx\r\n`],
    ['a long one, open', 'o'.repeat(10_000), `${'o'.repeat(10_000)}\nx\n`],
  ])('ends its line as the lines of the file end: %s', async (_, before, after) => {
    const { file } = logWith(before)
    await appendLine(file, 'x')
    expect(unstamped(read(file))).toBe(after)
    await appendLine(file, 'y')
    expect(unstamped(read(file))).toBe(`${after}y${after.endsWith('\r\n') ? '\r\n' : '\n'}`)
  })

  test('takes bytes that are no text as they are', async () => {
    const { file } = logWith('')
    fs.writeFileSync(file, Buffer.from([0xff, 0xfe, 0x0a]))
    await appendLine(file, 'grün')
    expect(fs.readFileSync(file).subarray(0, 3)).toEqual(Buffer.from([0xff, 0xfe, 0x0a]))
    expect(fs.readFileSync(file).subarray(3).toString()).toMatch(/Z grün\n$/)
  })

  test.each(['a\nb', 'a\r', '\r\n', 'a\0b', 'a\vb', 'a\fb', 'a\u0085b', 'a\u2028b', 'a\u2029b'])('refuses what is not a single line of text: %j', async (text) => {
    const { folder, file } = logWith('one\n')
    await expect(appendLine(file, text)).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('single line') })
    expect([read(file), besides(folder, 'log.md')]).toEqual(['one\n', []])
  })

  test('goes on under a lock that is held already', async () => {
    const { folder, file } = logWith('')
    const lock = await acquireLock(file)
    await Promise.all(Array.from({ length: 20 }, (_, n) => appendLine(file, `${n}`, { lock })))
    await expect(appendLine(file, 'no', { wait: 0 })).rejects.toMatchObject({ code: 'ELOCKED' })
    expect(unstamped(read(file)).trim().split('\n').map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, n) => n))
    expect(besides(folder, 'log.md')).toEqual(['log.md.lock'])
    await lock.release()
  })
})

describe('rotation', () => {
  const all = (folder: string) => Object.fromEntries(besides(folder).sort().map((name) => [name, unstamped(read(join(folder, name))).replaceAll('\n', ' ').trim()]))
  // A stamped line of one digit is 23 bytes.
  const two = { bytes: 46 }

  test('keeps every line, once, in order', async () => {
    const { folder, file } = logWith('')
    for (let n = 1; n <= 9; n++) await appendLine(file, `${n}`, { rotate: two })
    expect(all(folder)).toEqual({ 'log.md': '9', 'log.1.md': '7 8', 'log.2.md': '5 6', 'log.3.md': '3 4', 'log.4.md': '1 2' })
    expect((await tailLines(file, 100)).map(unstamped)).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9'])
  })

  test('keeps so many files as it is told', async () => {
    const { folder, file } = logWith('')
    for (let n = 1; n <= 9; n++) await appendLine(file, `${n}`, { rotate: { ...two, keep: 2 } })
    expect(all(folder)).toEqual({ 'log.md': '9', 'log.1.md': '7 8', 'log.2.md': '5 6' })
    for (let n = 1; n <= 3; n++) await appendLine(file, `${n}`, { rotate: { ...two, keep: 1 } })
    expect(all(folder)).toMatchObject({ 'log.md': '2 3', 'log.1.md': '9 1' })
  })

  test('names the archives of files without an extension, and of hidden ones', () => {
    expect(['log', '.log', 'a.b.md'].map((name) => archiveOf(`/m/${name}`, 2))).toEqual(['/m/log.2', '/m/.log.2', '/m/a.b.2.md'])
  })

  test('never rotates an empty file: a line may be longer than the limit', async () => {
    const { folder, file } = logWith('')
    await appendLine(file, '1'.repeat(100), { rotate: { bytes: 10 } })
    await appendLine(file, '2'.repeat(100), { rotate: { bytes: 10 } })
    expect(Object.keys(all(folder))).toEqual(['log.1.md', 'log.md'])
  })

  test('keeps the mode and the line ends', async () => {
    const { file } = logWith('one\r\n')
    fs.chmodSync(file, 0o600)
    const line = await appendLine(file, 'two', { rotate: { bytes: 1 } })
    expect([fs.statSync(file).mode & 0o777, read(file)]).toEqual([0o600, `${line}\r\n`])
    expect([fs.statSync(archiveOf(file, 1)).mode & 0o777, read(archiveOf(file, 1))]).toEqual([0o600, 'one\r\n'])
  })

  describe.each([3, Infinity])('keep %s: killed between any two of its renames', (keep) => {
    test.each([1, 2, 3])('%s done: every line is there once, also for tailLines, and the next rotation fills the gap', async (done) => {
      const { folder, file } = logWith('5\n')
      for (const n of [1, 2, 3]) fs.writeFileSync(archiveOf(file, n), `${5 - n}\n`)
      const calls = process.getBuiltinModule('node:fs')
      const { renameSync } = calls
      let count = 0
      calls.renameSync = (from, to) => {
        if (count++ === done) throw new Error('killed')
        renameSync(from, to)
      }
      try {
        expect(() => shift(file, keep)).toThrow('killed')
      } catch {
        expect(count, 'there are no more of them').toBe(done)
      } finally {
        calls.renameSync = renameSync
      }
      const kept = keep === 3 ? ['3', '4', '5'] : ['2', '3', '4', '5']
      expect(await tailLines(file, 10)).toEqual(kept)
      await appendLine(file, '6', { rotate: { bytes: 1, ...(keep === 3 && { keep }) } })
      expect((await tailLines(file, 10)).map(unstamped)).toEqual([...kept, '6'])
      const files = besides(folder, 'log.md')
      expect(files.sort()).toEqual(['log.1.md', 'log.2.md', 'log.3.md', ...(keep === 3 ? [] : ['log.4.md'])].slice(0, files.length))
      // And so on, without a gap.
      for (let n = 7; n < 10; n++) await appendLine(file, `${n}`, { rotate: { bytes: 1 } })
      expect((await tailLines(file, 10)).map(unstamped)).toEqual([...kept, '6', '7', '8', '9'])
    })
  })
})

describe('what a killed writer has left', () => {
  const ID = '0123456789abcdef'
  const LINE = '2026-11-20T09:00:00Z hourly: grün\n'
  /** As after a kill in the middle of write(2): of the noted text, so many bytes are in the file. */
  function torn(written: number, more = '', text = LINE, before = 'one\n'): { folder: string; file: string } {
    const { folder, file } = logWith('')
    fs.writeFileSync(file, Buffer.concat([Buffer.from(before), Buffer.from(text).subarray(0, written), Buffer.from(more)]))
    fs.writeFileSync(join(folder, `.log.md.${ID}.${Buffer.byteLength(before)}.add`), text)
    return { folder, file }
  }
  const length = Buffer.byteLength(LINE)

  test('is completed by the next, wherever it was torn', async () => {
    for (let written = 1; written <= length; written++) {
      const { folder, file } = torn(written)
      const line = await appendLine(file, 'next')
      expect(read(file), `${written} bytes`).toBe(`one\n${LINE}${line}\n`)
      expect(besides(folder, 'log.md')).toEqual([])
    }
  })

  test('is completed by any change, and by tailLines', async () => {
    const one = torn(5)
    await updateFile(one.file, (text) => (expect(text).toBe(`one\n${LINE}`), undefined))
    const two = torn(5)
    expect(await tailLines(two.file)).toEqual(['one', LINE.trim()])
    expect([besides(one.folder), besides(two.folder)]).toEqual([['log.md'], ['log.md']])
  })

  test('also behind a line that was open, with its line ends', async () => {
    const { file } = torn(1, '', '\r\n2026-11-20T09:00:00Z two\r\n', 'one')
    const line = await appendLine(file, 'three')
    expect(read(file)).toBe(`one\r\n2026-11-20T09:00:00Z two\r\n${line}\r\n`)
  })

  test('is dropped when it was not begun', async () => {
    const { folder, file } = torn(0)
    const line = await appendLine(file, 'next')
    expect([read(file), besides(folder, 'log.md')]).toEqual([`one\n${line}\n`, []])
  })

  test('is dropped when the note itself is torn: then nothing was begun', async () => {
    const { folder, file } = torn(0, '', LINE.slice(0, 7))
    const line = await appendLine(file, 'next')
    expect([read(file), besides(folder, 'log.md')]).toEqual([`one\n${line}\n`, []])
  })

  test.each(['\nforeign\n', 'foreign', '\n', 'x'])('is left alone when somebody has written behind it: %j', async (more) => {
    const { folder, file } = torn(5, more)
    await updateFile(file, () => undefined)
    expect([read(file), besides(folder, 'log.md')]).toEqual([`one\n${LINE.slice(0, 5)}${more}`, []])
  })

  test('is dropped when the file is gone, shorter than it was, or no file', async () => {
    const gone = torn(5)
    fs.rmSync(gone.file)
    await updateFile(gone.file, () => undefined)
    expect(besides(gone.folder)).toEqual([])
    const short = torn(5)
    fs.truncateSync(short.file, 2)
    await updateFile(short.file, () => undefined)
    expect([read(short.file), besides(short.folder)]).toEqual(['on', ['log.md']])
  })
})

describe('tailLines', () => {
  test('gives the last lines, oldest first, without their ends', async () => {
    const { file } = logWith('one\r\ntwo\n\nfour\n')
    expect(await tailLines(file)).toEqual(['one', 'two', '', 'four'])
    expect(await tailLines(file, 2)).toEqual(['', 'four'])
    expect(await tailLines(file, 1)).toEqual(['four'])
    expect(await tailLines(join(tempFolder(), 'none.md'))).toEqual([])
    expect(await tailLines(logWith('').file)).toEqual([])
    expect(await tailLines(logWith('\n').file)).toEqual([''])
  })

  test('counts an open last line', async () => {
    const { folder, file } = logWith('one\ntwo')
    expect(await tailLines(file)).toEqual(['one', 'two'])
    expect(await tailLines(file, 1)).toEqual(['two'])
    expect([read(file), besides(folder)]).toEqual(['one\ntwo', ['log.md']])
  })

  test('goes back over the archives, as far as it has to', async () => {
    const { file } = logWith('5\n6\n')
    fs.writeFileSync(archiveOf(file, 1), '3\n4\n')
    fs.writeFileSync(archiveOf(file, 2), Buffer.from([0xff, 0x0a]))
    expect(await tailLines(file, 3)).toEqual(['4', '5', '6'])
    expect(await tailLines(file, 4)).toEqual(['3', '4', '5', '6'])
    await expect(tailLines(file, 5)).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL' })
  })

  test('reads big files from their end: lines that cross the chunks, many bytes to a character', async () => {
    for (const size of [1, 65_533, 65_534, 65_535, 65_536, 200_000]) {
      const lines = ['first', 'ü'.repeat(size), '€'.repeat(size), 'last']
      const { file } = logWith(`${lines.join('\n')}\n`)
      for (let count = 1; count <= 4; count++) expect(await tailLines(file, count)).toEqual(lines.slice(-count))
    }
    const { file } = logWith(Array.from({ length: 100_000 }, (_, n) => `line ${n}\n`).join(''))
    expect(await tailLines(file, 3)).toEqual(['line 99997', 'line 99998', 'line 99999'])
    expect(await tailLines(file, 50_000)).toHaveLength(50_000)
  })

  test('while somebody holds the lock, gives what is there; an open line may just be written', async () => {
    const { file } = logWith('one\ntwo')
    fs.writeFileSync(archiveOf(file, 1), 'zero\n')
    const lock = await acquireLock(file)
    expect(await tailLines(file, 10, { wait: 0 })).toEqual(['zero', 'one'])
    expect(await tailLines(file, 1, { wait: 0 })).toEqual(['one'])
    fs.appendFileSync(file, '\n')
    expect(await tailLines(file, 10, { wait: 0 })).toEqual(['zero', 'one', 'two'])
    expect(await tailLines(file, 10, { lock })).toEqual(['zero', 'one', 'two'])
    await lock.release()
  })

  test('while it waits for somebody who rotates, counts no line twice', async () => {
    const { file } = logWith('one\ntwo\n')
    fs.writeFileSync(archiveOf(file, 1), 'zero\n')
    const lock = await acquireLock(file)
    const tail = tailLines(file, 10, { wait: '300ms' })
    shift(file, Infinity)
    fs.writeFileSync(file, 'three\n')
    expect(await tail).toEqual(['zero', 'one', 'two', 'three'])
    await lock.release()
  })

  test('can be stopped while it waits', async () => {
    const { file } = logWith('one')
    const lock = await acquireLock(file)
    const aborter = new AbortController()
    const tail = tailLines(file, 1, { signal: aborter.signal, wait: '30s' })
    aborter.abort(new RangeError('enough'))
    await expect(tail).rejects.toThrow(new RangeError('enough'))
    await lock.release()
  })

  test('reads where nobody may write', async ({ skip }) => {
    skip(lacks.nobody !== '', lacks.nobody)
    const { folder, file } = logWith('one\ntwo')
    fs.writeFileSync(archiveOf(file, 1), 'zero\n')
    for (const [path, mode] of [[folder, 0o755], [file, 0o644], [archiveOf(file, 1), 0o644]] as const) fs.chmodSync(path, mode)
    const filesUrl = new URL('../dist/files.js', import.meta.url).href
    const child = start([...asNobody, process.execPath, '--input-type=module', '-e', `import { tailLines } from ${JSON.stringify(filesUrl)}
console.log(JSON.stringify(await tailLines(${JSON.stringify(file)}, 10)))`])
    expect(JSON.parse(await child.line())).toEqual(['zero', 'one', 'two'])
    expect(besides(folder).sort()).toEqual(['log.1.md', 'log.md'])
  })
})
