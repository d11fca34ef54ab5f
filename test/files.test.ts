/* `updateFile`, and what a file under its lock is, for every change. */
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { acquireLock, breakLock, inspectLock, releaseLock } from 'lockpact'
import { describe, expect, onTestFinished, test } from 'vitest'
import { appendLine, finishItem, hashOf, returnItem, tailLines, takeItem, updateFile } from '../dist/files.js'
import { replaceFile } from '../lib/files/edit.js'
import { besides, sha256, startFiles } from './files-support.js'
import { has, isRoot, sleep, tempFolder, until } from './support.js'

const read = (path: string) => fs.readFileSync(path, 'utf8')
/** A file with a text, in a folder of its own. */
function fileWith(text: string | Buffer, name = 'roster.md'): { folder: string; file: string } {
  const folder = tempFolder()
  const file = join(folder, name)
  fs.writeFileSync(file, text)
  return { folder, file }
}

describe('a change', () => {
  test('replaces the text, tells what it did, and leaves nothing beside the file', async () => {
    const { folder, file } = fileWith('- [ ] presence\n')
    const updated = await updateFile(file, (text, exists) => `${text}${exists}\n`)
    expect(updated).toEqual({ file, text: '- [ ] presence\ntrue\n', hash: sha256('- [ ] presence\ntrue\n'), changed: true })
    expect(read(file)).toBe('- [ ] presence\ntrue\n')
    expect(besides(folder, 'roster.md')).toEqual([])
  })

  test('is never seen half by a reader', async () => {
    const texts = ['a', 'b'].map((letter) => letter.repeat(300_000))
    const { folder, file } = fileWith(texts[0]!)
    const reader = startFiles(
      `let over = false, seen = new Set(), reads = 0, torn = 0
told().then(() => { over = true })
say('reading')
while (!over) {
  const text = fs.readFileSync('roster.md', 'latin1')
  reads++
  if (text.length !== 300_000 || text !== text[0].repeat(300_000)) torn++
  seen.add(text[0])
  await new Promise(setImmediate)
}
say(JSON.stringify({ reads, torn, seen: [...seen].sort() }))`,
      { cwd: folder },
    )
    await reader.line()
    for (let n = 1; n <= 100; n++) await updateFile(file, () => texts[n % 2], { fsync: false })
    reader.process.stdin!.write('over\n')
    const { reads, torn, seen } = JSON.parse(await reader.line())
    expect({ torn, seen }).toEqual({ torn: 0, seen: ['a', 'b'] })
    expect(reads).toBeGreaterThan(20)
    console.log(`atomic: ${reads} reads beside 100 updates of 300 kB, ${torn} torn`)
  })

  test('keeps the mode, whatever the mask', async () => {
    const { file } = fileWith('one')
    const mask = process.umask(0o077)
    try {
      for (const mode of [0o666, 0o640, 0o755, 0o400]) {
        fs.chmodSync(file, mode)
        // 0o400: whoever may write to the folder may replace the file.
        await updateFile(file, (text) => `${text}.`)
        expect(fs.statSync(file).mode & 0o7777).toBe(mode)
      }
    } finally {
      process.umask(mask)
    }
    expect(read(file)).toBe('one....')
  })

  test('keeps owner and group', async ({ skip }) => {
    skip(!isRoot, 'only root gives files away')
    const { file } = fileWith('one')
    fs.chownSync(file, 65_534, 12_345)
    await updateFile(file, () => 'two')
    expect([fs.statSync(file).uid, fs.statSync(file).gid, read(file)]).toEqual([65_534, 12_345, 'two'])
  })

  test('follows symbolic links, which stay links, and is locked where the file is', async () => {
    const { folder, file } = fileWith('one')
    const link = join(folder, 'link.md')
    fs.symlinkSync('roster.md', link)
    const updated = await updateFile(link, async () => {
      await expect(updateFile(file, () => 'not now', { wait: 0 })).rejects.toMatchObject({ code: 'ELOCKED', file })
      return 'two'
    })
    expect(updated.file).toBe(file)
    expect(fs.readlinkSync(link)).toBe('roster.md')
    expect(read(file)).toBe('two')
  })

  test('creates a missing file, its folder, and the missing target of a link', async () => {
    const folder = tempFolder()
    fs.symlinkSync(join('far', 'away.md'), join(folder, 'link.md'))
    expect(await updateFile(join(folder, 'a', 'b', 'new.md'), (text, exists) => `${JSON.stringify(text)} ${exists}`)).toMatchObject({ text: '"" false', changed: true })
    await updateFile(join(folder, 'link.md'), () => 'there')
    expect(read(join(folder, 'a', 'b', 'new.md'))).toBe('"" false')
    expect(read(join(folder, 'far', 'away.md'))).toBe('there')
    expect(await updateFile(join(folder, 'empty.md'), () => '')).toMatchObject({ changed: true })
    expect(read(join(folder, 'empty.md'))).toBe('')
  })

  test.each([
    ['undefined', () => undefined],
    ['the same text', (text: string) => text],
  ])('that gives %s leaves the file untouched', async (_, change) => {
    const { folder, file } = fileWith('one')
    const before = fs.statSync(file, { bigint: true })
    expect(await updateFile(file, change)).toEqual({ file, text: 'one', hash: hashOf('one'), changed: false })
    const after = fs.statSync(file, { bigint: true })
    expect([after.ino, after.mtimeNs, after.ctimeNs]).toEqual([before.ino, before.mtimeNs, before.ctimeNs])
    expect(besides(folder, 'roster.md')).toEqual([])
  })

  test('that gives undefined for a missing file creates none', async () => {
    const folder = tempFolder()
    expect(await updateFile(join(folder, 'new.md'), () => undefined)).toMatchObject({ text: '', changed: false })
    expect(besides(folder)).toEqual([])
  })

  test('keeps a byte order mark and line ends byte for byte', async () => {
    const bytes = Buffer.from('\uFEFFone\r\ntwo\nthree\r')
    const { file } = fileWith(bytes)
    const { hash } = await updateFile(file, (text) => {
      expect(text).toBe('\uFEFFone\r\ntwo\nthree\r')
      return `${text}\r\nfour`
    })
    expect(fs.readFileSync(file)).toEqual(Buffer.concat([bytes, Buffer.from('\r\nfour')]))
    expect(hash).toBe(sha256(fs.readFileSync(file)))
  })

  test('of what is not UTF-8 is refused, and the bytes stay', async () => {
    const bytes = Buffer.from([0x66, 0xff, 0xfe, 0x00, 0xc3])
    const { folder, file } = fileWith(bytes)
    await expect(updateFile(file, () => 'text')).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('not UTF-8') })
    expect(fs.readFileSync(file)).toEqual(bytes)
    expect(besides(folder, 'roster.md')).toEqual([])
  })
})

describe('ifHash', () => {
  test('is what sha256sum prints; a change of another text is refused', async ({ skip }) => {
    skip(!has('sha256sum'), 'needs sha256sum')
    const { file } = fileWith('größe\r\n')
    const ifHash = execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64)
    expect(hashOf('größe\r\n')).toBe(ifHash)
    const { hash } = await updateFile(file, () => 'mine', { ifHash })
    await expect(updateFile(file, () => 'stale', { ifHash })).rejects.toMatchObject({ name: 'LockError', code: 'ESTALE', file, message: expect.stringContaining(hash) })
    expect(read(file)).toBe('mine')
    await updateFile(file, () => 'mine again', { ifHash: hash })
    expect(read(file)).toBe('mine again')
  })

  test('of a missing file is that of the empty text', async () => {
    const file = join(tempFolder(), 'new.md')
    await expect(updateFile(file, () => 'text', { ifHash: hashOf('something') })).rejects.toMatchObject({ code: 'ESTALE' })
    expect(fs.existsSync(file)).toBe(false)
    await updateFile(file, () => 'text', { ifHash: hashOf('') })
    expect(read(file)).toBe('text')
  })
})

describe('who writes without the lock while a change is made', () => {
  const foreign = (write: (file: string) => void, text = 'one') =>
    async () => {
      const { folder, file } = fileWith(text)
      const change = updateFile(file, () => {
        write(file)
        return 'ours'
      })
      await expect(change).rejects.toMatchObject({ name: 'LockError', code: 'ESTALE', file })
      expect(besides(folder, 'roster.md')).toEqual([])
      return { file }
    }

  test('keeps its text: ESTALE', async () => {
    const { file } = await foreign((path) => fs.appendFileSync(path, ' and theirs'))()
    expect(read(file)).toBe('one and theirs')
  })

  test('keeps its text also when it is as long as the old one, and written in the same tick of the clock', async () => {
    // A file system's clock as it is before Linux 6.13, only coarser.
    const calls = process.getBuiltinModule('node:fs')
    const { statSync, fstatSync } = calls
    const coarse = (stats: any) => {
      for (const name of ['mtimeNs', 'ctimeNs']) if (typeof stats?.[name] === 'bigint') stats[name] -= stats[name] % 10_000_000_000n
      return stats
    }
    onTestFinished(() => void Object.assign(calls, { statSync, fstatSync }))
    Object.assign(calls, { statSync: (...args: any) => coarse((statSync as any)(...args)), fstatSync: (...args: any) => coarse((fstatSync as any)(...args)) })
    for (let n = 0; n < 3; n++) {
      const { file } = fileWith('- [ ] a')
      const change = updateFile(file, () => (fs.writeFileSync(file, '- [x] a'), '- [~] a'), { fsync: false })
      await expect(change).rejects.toMatchObject({ code: 'ESTALE' })
      expect(read(file)).toBe('- [x] a')
    }
  })

  test('keeps its text also when it sets the old time again', async () => {
    const { file } = fileWith('one')
    fs.utimesSync(file, 1_000, 1_000)
    const change = updateFile(file, () => {
      fs.writeFileSync(file, 'two')
      fs.utimesSync(file, 1_000, 1_000)
      return 'ours'
    })
    await expect(change).rejects.toMatchObject({ code: 'ESTALE' })
    expect(read(file)).toBe('two')
  })

  test('keeps its new file, and its deletion', async () => {
    const { file } = await foreign((path) => fs.rmSync(path))()
    expect(fs.existsSync(file)).toBe(false)
    await expect(updateFile(file, () => (fs.writeFileSync(file, 'theirs'), 'ours'))).rejects.toMatchObject({ code: 'ESTALE' })
    expect(read(file)).toBe('theirs')
  })

  test('keeps its mode', async () => {
    const { file } = await foreign((path) => fs.chmodSync(path, 0o600))()
    expect([fs.statSync(file).mode & 0o777, read(file)]).toEqual([0o600, 'one'])
  })
})

describe('a change that fails', () => {
  const machine = () => fs.readFileSync('/no/such/file')
  test.each<[string, () => any]>([
    ['throws', () => { throw new RangeError('mine') }],
    ['rejects', () => Promise.reject(new RangeError('mine'))],
    ['throws what is no error', () => { throw 'mine' }],
    ['meets the machine', machine],
  ])('because it %s is passed on as it is; nothing is changed, and the lock is free', async (_, change) => {
    const { folder, file } = fileWith('one')
    const thrown = await (async () => change())().catch((error: unknown) => error)
    const passed = await updateFile(file, change).catch((error: unknown) => error)
    if (change === machine) expect(passed).toMatchObject({ name: 'Error', code: 'ENOENT', path: '/no/such/file' })
    else expect(passed).toEqual(thrown)
    expect(read(file)).toBe('one')
    expect(besides(folder, 'roster.md')).toEqual([])
  })

  test.each([1, null, Buffer.from('x'), {}])('because it gives %s is refused', async (value) => {
    const { folder, file } = fileWith('one')
    await expect(updateFile(file, () => value as never)).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('must be a text') })
    expect([read(file), besides(folder, 'roster.md')]).toEqual(['one', []])
  })
})

describe('names that lead to no text', () => {
  const calls: [string, (path: string) => Promise<unknown>][] = [
    ['updateFile', (path) => updateFile(path, () => 'x', { wait: 0 })],
    ['appendLine', (path) => appendLine(path, 'x', { wait: 0 })],
    ['tailLines', (path) => tailLines(path)],
    ['takeItem', (path) => takeItem(path, { wait: 0 })],
    ['finishItem', (path) => finishItem(path, 'token', { wait: 0 })],
    ['returnItem', (path) => returnItem(path, 'token', { wait: 0 })],
  ]
  describe.each(calls)('%s', (called, call) => {
    test.each<[string, (folder: string) => any, string?]>([
      ['a folder', (folder) => folder, called === 'appendLine' ? 'EISDIR' : 'EINVAL'],
      ['a part', (folder) => join(folder, 'queue.md::head')],
      ['a free name', (folder) => (fs.mkdirSync(join(folder, '.lockpact')), (process.env['LOCKPACT_DIR'] = folder), 'name:deploy')],
      ['NUL', (folder) => join(folder, 'que\0ue.md')],
      ['an empty text', () => ''],
      ['10,000 characters', (folder) => join(folder, 'q'.repeat(10_000))],
      ['a number', () => 7],
      ['nothing', () => undefined],
      ['below a file', (folder) => (fs.writeFileSync(join(folder, 'file'), ''), join(folder, 'file', 'queue.md')), 'ENOTDIR'],
    ])('%s', async (_, make, code = 'EINVAL') => {
      const folder = tempFolder()
      const path = make(join(fs.mkdirSync(join(folder, 'inside'), { recursive: true })!))
      const before = fs.readdirSync(folder, { recursive: true })
      try {
        await expect(call(path)).rejects.toMatchObject({ name: 'LockError', code, message: expect.stringMatching(/^.{10,400}$/) })
      } finally {
        delete process.env['LOCKPACT_DIR']
      }
      expect(fs.readdirSync(folder, { recursive: true })).toEqual(before)
    })

    test('a FIFO, which nobody waits for', async ({ skip }) => {
      skip(!has('mkfifo'), 'needs mkfifo')
      const folder = tempFolder()
      execFileSync('mkfifo', [join(folder, 'fifo')])
      await expect(call(join(folder, 'fifo'))).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringContaining('not a regular file') })
      expect(besides(folder, 'fifo')).toEqual([])
    })
  })
})

test('bad arguments are told, and nothing is created', async () => {
  const folder = tempFolder()
  const file = join(folder, 'queue.md')
  const bad: [Promise<unknown>, RegExp][] = [
    [updateFile(file, 'text' as never), /a function/],
    [updateFile(file, () => 'x', { ifHash: 'abc' }), /64 hex digits/],
    [updateFile(file, () => 'x', { wait: 'soon' as never }), /wait/],
    [updateFile(file, () => 'x', { owner: 7 as never }), /owner/],
    [updateFile(file, () => 'x', { lock: {} as never }), /token/],
    [updateFile(file, () => 'x', { lock: { token: '' } }), /token/],
    [appendLine(file, 7 as never), /a text/],
    [appendLine(file, 'x', { rotate: { bytes: 0 } }), /rotate.bytes/],
    [appendLine(file, 'x', { rotate: { bytes: 1.5 } }), /rotate.bytes/],
    [appendLine(file, 'x', { rotate: { bytes: 10, keep: 0 } }), /rotate.keep/],
    [tailLines(file, 0), /count/],
    [tailLines(file, 1.5), /count/],
    [takeItem(file, { ttl: 0 }), /ttl/],
    [takeItem(file, { ttl: '366d' }), /ttl/],
    [takeItem(file, { ttl: Infinity }), /ttl/],
    [takeItem(file, { owner: 'a\nb' }), /owner/],
    [finishItem(file, 7 as never), /token/],
    [finishItem(file, 'token', { result: 'a\nb' }), /result/],
    [returnItem(file, ''), /token/],
  ]
  for (const [call, words] of bad) await expect(call).rejects.toMatchObject({ name: 'LockError', code: 'EINVAL', message: expect.stringMatching(words) })
  expect(besides(folder)).toEqual([])
})

test('who waits for the lock can be stopped, with the reason', async () => {
  const { file } = fileWith('one')
  const lock = await acquireLock(file)
  const aborter = new AbortController()
  const change = updateFile(file, () => 'two', { wait: Infinity, signal: aborter.signal })
  setTimeout(() => aborter.abort(new RangeError('enough')), 50)
  await expect(change).rejects.toThrow(new RangeError('enough'))
  await lock.release()
  expect(read(file)).toBe('one')
})

describe('under a lock that is held already', () => {
  test('a change goes on in the same process, and in another one that has the token', async () => {
    const { folder, file } = fileWith('one')
    const lock = await acquireLock(file)
    await updateFile(file, (text) => `${text} two`, { lock })
    const child = startFiles(`say((await updateFile('roster.md', (text) => text + ' three', { lock: { token: await told() } })).text)`, { cwd: folder })
    child.process.stdin!.write(`${lock.token}\n`)
    expect(await child.line()).toBe('one two three')
    await child.ended
    expect(lock.held).toBe(true)
    expect(besides(folder, 'roster.md')).toEqual(['roster.md.lock'])
    expect(await lock.release()).toBe(true)
    expect(read(file)).toBe('one two three')
  })

  test('thirty changes at once exclude each other', async () => {
    const { folder, file } = fileWith('0')
    const lock = await acquireLock(file, { detached: true })
    let inside = 0
    let most = 0
    const change = async (text: string) => {
      most = Math.max(most, ++inside)
      await sleep(1)
      inside--
      return String(Number(text) + 1)
    }
    await Promise.all(Array.from({ length: 30 }, () => updateFile(file, change, { lock, wait: '30s', fsync: false })))
    expect([read(file), most]).toEqual(['30', 1])
    await releaseLock(file, lock.token)
    expect(besides(folder, 'roster.md')).toEqual([])
  })

  test('a token that does not hold it is refused, and so is everybody else', async () => {
    const { folder, file } = fileWith('one')
    await expect(updateFile(file, () => 'two', { lock: { token: 'nobody’s' } })).rejects.toMatchObject({ name: 'LockError', code: 'ENOTACQUIRED', file })
    const lock = await acquireLock(file, { owner: 'outer' })
    await expect(updateFile(file, () => 'two', { lock: { token: 'not this' } })).rejects.toMatchObject({ code: 'ENOTACQUIRED', holder: { owner: 'outer' } })
    await expect(updateFile(file, () => 'two', { wait: 0 })).rejects.toMatchObject({ code: 'ELOCKED', holder: { owner: 'outer' } })
    await expect(appendLine(file, 'two', { wait: 0 })).rejects.toMatchObject({ code: 'ELOCKED' })
    await lock.release()
    await expect(updateFile(file, () => 'two', { lock })).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
    expect([read(file), besides(folder, 'roster.md')]).toEqual(['one', []])
  })

  test('a lease that is over, but that nobody has taken, is good enough', async () => {
    const { file } = fileWith('one')
    const lock = await acquireLock(file, { detached: true, ttl: '200ms' })
    await until(() => inspectLock(file).state === 'stale')
    await updateFile(file, () => 'two', { lock })
    expect(read(file)).toBe('two')
  })

  test('so is that of an inner lock', async () => {
    const { file } = fileWith('one')
    const outer = await acquireLock(file)
    const lockFile = `${outer.lockFile}.inner`
    const lock = await acquireLock(file, { lockFile, detached: true, ttl: '200ms' })
    await until(() => inspectLock(file, { lockFile }).state === 'stale')
    await updateFile(file, () => 'two', { lock })
    expect(read(file)).toBe('two')
    expect(inspectLock(file, { lockFile }).stamp?.id).toBe(lock.id)
    await outer.release()
  })
})

describe('who has lost the lock meanwhile changes nothing: ECOMPROMISED, and the successor’s text stays', () => {
  const lost = { name: 'LockError', code: 'ECOMPROMISED' }

  test('broken by a person', async () => {
    const { folder, file } = fileWith('one')
    const change = updateFile(file, async () => {
      await breakLock(file, { reason: 'a test' })
      await updateFile(file, () => 'the successor’s', { wait: 0 })
      return 'too late'
    })
    await expect(change).rejects.toMatchObject({ ...lost, file })
    expect([read(file), besides(folder, 'roster.md')]).toEqual(['the successor’s', []])
  })

  test('the outer lock released, broken, or taken over, under a nested change', async () => {
    const { folder, file } = fileWith('one')
    const outer = await acquireLock(file)
    await expect(updateFile(file, async () => (await outer.release(), 'too late'), { lock: outer })).rejects.toMatchObject(lost)
    const again = await acquireLock(file)
    const change = updateFile(
      file,
      async () => {
        await breakLock(file, { reason: 'a test' })
        await updateFile(file, () => 'the successor’s', { wait: 0 })
        return 'too late'
      },
      { lock: again },
    )
    await expect(change).rejects.toMatchObject(lost)
    expect([read(file), besides(folder, 'roster.md')]).toEqual(['the successor’s', []])
  })

  test('the inner lock broken, while the outer one stands', async () => {
    const { file } = fileWith('one')
    const lock = await acquireLock(file)
    const change = updateFile(
      file,
      async () => {
        await breakLock(file, { lockFile: `${file}.lock.inner`, reason: 'a test' })
        await updateFile(file, () => 'another’s', { lock, wait: 0 })
        return 'too late'
      },
      { lock },
    )
    await expect(change).rejects.toMatchObject(lost)
    expect(read(file)).toBe('another’s')
  })

  const sleeper = (options: string) => `
    try {
      await updateFile('roster.md', async () => { say('reading'); await told(); return 'too late' }, ${options})
      say('changed')
    } catch (error) { say(error.code) }`

  test('suspended beyond the TTL of the lock under which it works', async () => {
    const { folder, file } = fileWith('one')
    const lock = await acquireLock(file, { detached: true, ttl: '1s' })
    const child = startFiles(sleeper(`{ lock: { token: ${JSON.stringify(lock.token)} } }`), { cwd: folder })
    await child.line()
    child.process.kill('SIGSTOP')
    await updateFile(file, () => 'the successor’s', { wait: '30s' })
    child.process.kill('SIGCONT')
    child.process.stdin!.write('go on\n')
    expect(await child.line()).toBe('ECOMPROMISED')
    await child.ended
    expect([read(file), besides(folder, 'roster.md')]).toEqual(['the successor’s', []])
  })

  test('suspended beyond the TTL of its own lock, with a new text in its temporary file', async () => {
    const { folder, file } = fileWith('one')
    // As updateFile, with a TTL of its own, and asleep between its temporary file and the rename.
    const change = replaceFile(
      file,
      async () => {
        const wait = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
        const successor = startFiles(
          `say('ready'); await updateFile('roster.md', () => { say('mine'); return 'the successor’s' }, { wait: '30s' })
say(fs.readdirSync('.').join())`,
          { cwd: folder },
        )
        await successor.line()
        const calls = process.getBuiltinModule('node:fs')
        const { openSync } = calls
        calls.openSync = (path, ...rest) => {
          const fd = openSync(path, ...rest)
          if (String(path).endsWith('.tmp')) {
            calls.openSync = openSync
            // Asleep, as if suspended, until somebody has watched that for five seconds, and has replaced the file.
            while (fs.readFileSync(file, 'utf8') === 'one') wait(20)
            wait(300)
          }
          return fd
        }
        return 'too late'
      },
      { lockTtl: 400 },
    )
    await expect(change).rejects.toMatchObject(lost)
    expect([read(file), besides(folder, 'roster.md')]).toEqual(['the successor’s', []])
  })

  test('an append, too', async () => {
    const { folder, file } = fileWith('one\n', 'log.md')
    const onEvent = ({ type }: { type: string }) => {
      if (type !== 'acquired') return
      void breakLock(file, { reason: 'a test' })
      fs.writeFileSync(`${file}.lock`, '{"v":1,"owner":"the successor"}')
    }
    await expect(appendLine(file, 'too late', { onEvent })).rejects.toMatchObject(lost)
    await expect(appendLine(file, 'too late', { rotate: { bytes: 1 }, wait: 0 })).rejects.toMatchObject({ code: 'ELOCKED' })
    expect([read(file), besides(folder, 'log.md')]).toEqual(['one\n', ['log.md.lock']])
  })
})

describe('clearing up', () => {
  const ID = '0123456789abcdef'

  test('takes away what the dead have left beside this file, and nothing else', async () => {
    const { folder, file } = fileWith('one')
    const theirs = [`.roster.md.${ID}.tmp`, `.roster.md.${ID}.3.add`]
    const others = [`.other.md.${ID}.tmp`, `.roster.md.${ID}.bak`, `.roster.md.tmp`, `roster.md.${ID}.tmp`, `.roster.md.old.${ID}.tmp`, 'roster.md.bak']
    for (const name of [...theirs, ...others]) fs.writeFileSync(join(folder, name), 'x')
    await updateFile(file, () => undefined)
    expect(besides(folder, 'roster.md')).toEqual([...others].sort())
    expect(read(file)).toBe('one')
  })

  test('is not done by who has lost the lock: it would be the successor’s', async () => {
    const { folder, file } = fileWith('one\n', 'log.md')
    const note = join(folder, `.log.md.${ID}.4.add`)
    const onEvent = ({ type }: { type: string }) => {
      if (type !== 'acquired') return
      // Suspended as soon as it had the lock; meanwhile, a successor has begun to append.
      void breakLock(file, { reason: 'a test' })
      fs.writeFileSync(`${file}.lock`, '{"v":1,"owner":"the successor"}')
      fs.writeFileSync(note, 'two\n')
      fs.appendFileSync(file, 'tw')
    }
    await expect(updateFile(file, (text) => `${text}three\n`, { onEvent })).rejects.toMatchObject({ code: 'ECOMPROMISED' })
    expect(read(file)).toBe('one\ntw')
    expect(fs.existsSync(note)).toBe(true)
  })

  test('what was left of an inner lock goes with the next change, its guards too', async () => {
    const { folder, file } = fileWith('one')
    const child = startFiles(
      `const lock = await acquireLock('roster.md')
await updateFile('roster.md', () => {
  for (const guard of ['.guard', '.guard.guard']) fs.copyFileSync('roster.md.lock.inner', 'roster.md.lock.inner' + guard)
  process.kill(process.pid, 'SIGKILL')
}, { lock })`,
      { cwd: folder },
    )
    expect((await child.ended).signal).toBe('SIGKILL')
    expect(besides(folder, 'roster.md')).toEqual(['roster.md.lock', 'roster.md.lock.inner', 'roster.md.lock.inner.guard', 'roster.md.lock.inner.guard.guard'])
    await updateFile(file, () => 'two')
    expect([read(file), besides(folder, 'roster.md')]).toEqual(['two', []])
  })
})
