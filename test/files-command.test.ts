/* `take`, `finish`, `return`, `append`, `tail`, `edit`, as a shell meets them. */
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { isRoot, lockpact, tempFolder, workspaceFolder } from './support.js'

const as = { env: { LOCKPACT_SESSION: 'a' } }
const sha = (text: string) => createHash('sha256').update(text).digest('hex')

describe('take, finish, return', () => {
  function queue(text = '# Queue\n- [x] old\n- [ ] one\n  more of it\n- [ ] two\n') {
    const folder = workspaceFolder()
    writeFileSync(join(folder, 'queue.md'), text)
    return { folder, text: () => readFileSync(join(folder, 'queue.md'), 'utf8') }
  }

  test('take prints the token, and below that the item; --json what the design fixes', () => {
    const { folder, text } = queue()
    const { status, stdout, stderr } = lockpact(folder, ['take', 'queue.md', '--owner', 'hourly'])
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^[0-9a-f-]{36}\none\n {2}more of it\n$/)])
    expect(stderr).toMatch(/^lockpact: yours until 20\S+; then: lockpact finish queue\.md --token [0-9a-f-]{36} --result "…"\n$/)
    expect(text()).toContain('- [~] one @hourly until 20')
    expect(lockpact(folder, ['take', 'queue.md', '--json']).json()).toEqual({ item: { id: expect.stringMatching(/^[0-9a-f]{16}$/), text: 'two', line: 5 }, token: expect.any(String), until: expect.stringMatching(/^20.*Z$/) })
  })

  test('nothing open: 75 and {"item":null}', () => {
    const { folder } = queue('- [x] done\n')
    expect(lockpact(folder, ['take', 'queue.md'])).toMatchObject({ status: 75, stdout: '', stderr: 'lockpact: there is no open item in queue.md\n' })
    expect(lockpact(folder, ['take', 'queue.md', '--json']).json()).toEqual({ item: null })
    expect(lockpact(folder, ['take', 'queue.md', '-q', '--conflict-exit-code', '0'])).toMatchObject({ status: 0, stderr: '' })
  })

  test('finish ticks it, with the result; return opens it again; a token is good for one', () => {
    const { folder, text } = queue('- [ ] one\n- [ ] two\n')
    const [one, two] = [0, 1].map(() => lockpact(folder, ['take', 'queue.md']).token)
    expect(lockpact(folder, ['finish', 'queue.md', '--token', one!, '--result', 'shipped', '--json']).json()).toMatchObject({ finished: true, item: { text: 'one', line: 1 } })
    expect(lockpact(folder, ['return', 'queue.md', '--token', two!, '--json']).json()).toMatchObject({ returned: true, item: { text: 'two' } })
    expect(text()).toBe('- [x] one (shipped)\n- [ ] two\n')
    expect(lockpact(folder, ['finish', 'queue.md', '--token', one!, '--json'])).toMatchObject({ status: 77 })
  })

  test('the session knows queue and token, from any folder', () => {
    const { folder, text } = queue('- [ ] one\n')
    mkdirSync(join(folder, 'below'))
    lockpact(folder, ['take', 'queue.md'], as)
    expect(lockpact(folder, ['finish', 'queue.md']).status).toBe(64)
    expect(lockpact(join(folder, 'below'), ['finish', '--result', 'ok'], as).status).toBe(0)
    expect(text()).toBe('- [x] one (ok)\n')
    expect(lockpact(folder, ['finish'], as)).toMatchObject({ status: 64, stderr: expect.stringContaining('no item in hand') })
  })

  test('a queue that is not there is no empty queue: 73', () => {
    expect(lockpact(tempFolder(), ['take', 'nothing.md', '--json'])).toMatchObject({ status: 73, stderr: expect.stringContaining('there is no queue') })
  })
})

describe('append and tail', () => {
  test('append prints the line as written, also from many at once; tail the last of them', () => {
    const folder = tempFolder()
    const { status, stdout } = lockpact(folder, ['append', 'log.md', 'hourly:', 'shipped', 'it'])
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^20\S+Z hourly: shipped it\n$/)])
    expect(lockpact(folder, ['append', 'log.md', '--json', '--', '- a bullet']).json()).toEqual({ appended: true, file: join(folder, 'log.md'), line: expect.stringMatching(/Z - a bullet$/) })
    expect(lockpact(folder, ['tail', 'log.md', '-n', '1']).stdout).toMatch(/Z - a bullet\n$/)
    expect(lockpact(folder, ['append', 'log.md', '- [ ] an idea']).stdout).toMatch(/Z - \[ \] an idea\n$/)
    expect(lockpact(folder, ['tail', 'log.md', '--json']).json()['lines']).toHaveLength(3)
  })

  test('--rotate and --keep', () => {
    const folder = tempFolder()
    for (const word of ['one', 'two', 'three']) lockpact(folder, ['append', 'log.md', word, '--rotate', '30', '--keep', '1'])
    expect(readdirSync(folder).sort()).toEqual(['log.1.md', 'log.md'])
    expect(lockpact(folder, ['tail', 'log.md']).stdout).toMatch(/two\n.*three\n$/)
    for (const wrong of ['0', '-1', '1k', '']) expect(lockpact(folder, ['append', 'log.md', 'x', `--rotate=${wrong}`]).status).toBe(64)
  })

  test('two lines are refused; a file that is not there has none; a folder is bad data', () => {
    const folder = tempFolder()
    expect(lockpact(folder, ['append', 'log.md', 'a\nb']).status).toBe(64)
    expect(lockpact(folder, ['tail', 'nothing.md'])).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('no lines') })
    mkdirSync(join(folder, 'sub'))
    expect(lockpact(folder, ['tail', 'sub']).status).toBe(65)
  })

  test('a line cannot write control sequences to the terminal', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'log.md'), 'a\u001b[2Jb\n')
    expect(lockpact(folder, ['tail', 'log.md']).stdout).toBe('a\\x1b[2Jb\n')
  })
})

describe('edit', () => {
  test('old text in, new text out; prints its hash; arguments are passed as they are', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'a.md'), 'one\ntwo\n')
    const { status, stdout } = lockpact(folder, ['edit', 'a.md', '--', 'sed', 's/two/$HOME; --json "x"/'])
    expect([status, stdout]).toEqual([0, `${sha('one\n$HOME; --json "x"\n')}\n`])
    expect(readFileSync(join(folder, 'a.md'), 'utf8')).toBe('one\n$HOME; --json "x"\n')
    expect(lockpact(folder, ['edit', 'a.md', '--json', '--', 'cat']).json()).toEqual({ changed: false, file: join(folder, 'a.md'), hash: sha('one\n$HOME; --json "x"\n') })
    expect(lockpact(folder, ['edit', 'new.md', '--', 'echo', 'hello']).status).toBe(0)
    expect(readdirSync(folder).sort()).toEqual(['a.md', 'new.md'])
  })

  test('--if-hash refuses a text that is not what was read: 75', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'a.md'), 'one\n')
    expect(lockpact(folder, ['edit', 'a.md', '--if-hash', sha('zero\n'), '--json', '--', 'echo', 'x'])).toMatchObject({ status: 75, stderr: expect.stringContaining('read it again') })
    expect(lockpact(folder, ['edit', 'a.md', '--if-hash', sha('one\n'), '--', 'echo', 'x']).status).toBe(0)
    expect(lockpact(folder, ['edit', 'a.md', '--if-hash', 'x', '--', 'cat']).status).toBe(64)
  })

  test.each([
    ['fails', ['sh', '-c', 'echo half; exit 3'], 3],
    ['is ended by a signal', ['sh', '-c', 'echo half; kill -TERM $$'], 143],
    ['is not there', ['no-such-command'], 127],
    ['may not be started', ['./a.md'], 126],
    ['prints what is no text', ['printf', '\\377'], 65],
  ])('a command that %s changes nothing, leaves nothing, and its status is passed on', (_, cmd, status) => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'a.md'), 'one\n')
    const failed = lockpact(folder, ['edit', 'a.md', '--json', '--', ...cmd])
    expect([failed.status, failed.json()['changed']]).toEqual([status, false])
    expect(failed.stderr).toMatch(/^lockpact: .*\n$/)
    expect(readdirSync(folder)).toEqual(['a.md'])
    expect(readFileSync(join(folder, 'a.md'), 'utf8')).toBe('one\n')
  })

  test('a command that prints nothing is taken for a mistake; --empty: it is meant', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'a.md'), 'one\n')
    expect(lockpact(folder, ['edit', 'a.md', '--', 'true'])).toMatchObject({ status: 65, stderr: expect.stringContaining('true printed nothing (is that meant? --empty)') })
    expect(readFileSync(join(folder, 'a.md'), 'utf8')).toBe('one\n')
    expect(lockpact(folder, ['edit', 'a.md', '--empty', '--', 'true'])).toMatchObject({ status: 0, stdout: `${sha('')}\n` })
    expect(readFileSync(join(folder, 'a.md'), 'utf8')).toBe('')
    // Of an empty text, it is no loss.
    expect(lockpact(folder, ['edit', 'a.md', '--', 'true']).status).toBe(0)
  })

  test('no command, and a file that is no text', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'a.bin'), Buffer.from([0xff, 0xfe]))
    expect(lockpact(folder, ['edit', 'a.bin'])).toMatchObject({ status: 64, stderr: expect.stringContaining('a command is missing') })
    expect(lockpact(folder, ['edit', 'a.bin', '--', 'cat'])).toMatchObject({ status: 65, stderr: expect.stringContaining('not UTF-8') })
  })

  test('a command that does not read a long text is none that fails', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'a.md'), 'x'.repeat(1_000_000))
    expect(lockpact(folder, ['edit', 'a.md', '--', 'echo', 'short']).status).toBe(0)
    expect(readFileSync(join(folder, 'a.md'), 'utf8')).toBe('short\n')
  })

  test('a folder that may not be written: 77', ({ skip }) => {
    skip(isRoot, 'root may write it')
    const folder = tempFolder()
    chmodSync(folder, 0o555)
    expect(lockpact(folder, ['append', 'log.md', 'x']).status).toBe(77)
    chmodSync(folder, 0o755)
    expect(existsSync(join(folder, 'log.md'))).toBe(false)
  })
})
