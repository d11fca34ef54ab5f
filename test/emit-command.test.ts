/* `--emit`: the same answers for schedulers, tools and hooks. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commandPath, lockpact, tempFolder, workspaceFolder } from './support.js'

/** Each command, so that the second call of it is refused. */
const GIVERS: [name: string, args: string[], granted: object, refused: object][] = [
  ['gate', ['gate', 'heartbeat'], { go: true, key: 'heartbeat' }, { go: false, reason: 'running' }],
  ['acquire', ['acquire', 'queue.md'], { held: true }, { held: false, code: 'ELOCKED' }],
  ['declare', ['declare', '--writes', 'memory', '--task'], { granted: true }, { granted: false, conflicts: [{ path: 'memory', task: 'one', owner: null, since: expect.any(String), expiresAt: expect.any(String) }] }],
]
const argsOf = (name: string, args: string[], task: string) => (name === 'declare' ? [...args, task] : args)

describe.each(GIVERS)('%s', (name, args, granted, refused) => {
  const once = (folder: string, task: string, ...more: string[]) => lockpact(folder, [...argsOf(name, args, task), ...more])

  test('wake: the last line is one JSON object, and a skip is told by a line of its own; always 0', () => {
    const folder = workspaceFolder()
    const go = once(folder, 'one', '--emit', 'wake')
    expect([go.status, go.stderr]).toEqual([0, ''])
    expect(go.json()).toMatchObject({ wakeAgent: true, ...granted, token: expect.any(String) })
    const skip = once(folder, 'two', '--emit', 'wake')
    expect([skip.status, skip.stderr]).toEqual([0, ''])
    const [words, last, end] = skip.stdout.split('\n')
    expect(words).toMatch(/^NO_WORK: \S.*since 20/)
    expect(last).toMatch(/^\{"wakeAgent":false,/)
    expect(JSON.parse(last!)).toMatchObject(refused)
    expect(end).toBe('')
  })

  test('tool: one JSON object, also for errors; always 0', () => {
    const folder = workspaceFolder()
    for (const answer of [granted, refused]) {
      const { status, stdout, stderr, json } = once(folder, answer === granted ? 'one' : 'two', '--emit', 'tool')
      expect([status, stderr, stdout.split('\n').length]).toEqual([0, '', 2])
      expect(json()).toMatchObject(answer)
    }
    const wrong = once(folder, 'one', '--emit=tool', '--nope')
    expect([wrong.status, wrong.stderr]).toEqual([0, ''])
    expect(wrong.json()).toEqual({ error: { code: 'EINVAL', message: expect.stringContaining('--nope') } })
  })

  test('hook: silent, or one sentence on stderr and 2', () => {
    const folder = workspaceFolder()
    expect(once(folder, 'one', '--emit', 'hook')).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(once(folder, 'two', '--emit', 'hook')).toMatchObject({ status: 2, stdout: '', stderr: expect.stringMatching(/^lockpact: .* since 20.*\n$/) })
  })

  test('an error that is no refusal keeps its status, so that the agent is started and no hook blocks', () => {
    for (const mode of ['exit', 'wake', 'hook']) expect(once(workspaceFolder(), 'one', '--emit', mode, '--ttl', '5'), mode).toMatchObject({ status: 64, stdout: '', stderr: expect.stringContaining('--ttl needs a unit') })
  })

  test('exit: -q and --conflict-exit-code 0 make it fit for a crontab line', () => {
    const folder = workspaceFolder()
    once(folder, 'one')
    expect(once(folder, 'two', '-q', '--conflict-exit-code', '0')).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(once(folder, 'two').status).toBe(75)
  })
})

describe('renew and release', () => {
  test('answer in the same ways; a token that is not the holder\'s is an error', () => {
    const folder = workspaceFolder()
    const { token } = lockpact(folder, ['acquire', 'queue.md'])
    const input = { env: { TOOL_INPUT: JSON.stringify({ resource: 'queue.md', token }) } }
    expect(lockpact(folder, ['renew', 'queue.md', '--token', token, '--emit', 'wake']).json()).toMatchObject({ wakeAgent: true, renewed: true })
    expect(lockpact(folder, ['release', 'queue.md', '--token', 'nonsense', '--emit', 'hook'])).toMatchObject({ status: 77, stdout: '' })
    expect(lockpact(folder, ['release', '--emit', 'tool'], input).json()).toEqual({ released: true, file: join(folder, 'queue.md'), lockFile: join(folder, 'queue.md.lock') })
    const again = lockpact(folder, ['renew', '--emit', 'tool'], input)
    expect([again.status, again.json()]).toEqual([0, { renewed: false, error: { code: 'ENOTACQUIRED', message: expect.any(String) } }])
  })
})

describe('the input of a tool', () => {
  test('TOOL_INPUT: the operand and the options by their names, seconds as numbers, lists as lists', () => {
    const folder = workspaceFolder()
    const tool = (name: string, input: object) => lockpact(folder, [name, '--emit', 'tool'], { env: { TOOL_INPUT: JSON.stringify(input) } }).json()
    const lock = tool('acquire', { resource: 'queue.md', ttl_seconds: 90, owner: 'phantom', lock_file: 'other.lock', wait_seconds: 0 })
    expect(lock).toMatchObject({ held: true, owner: 'phantom', lockFile: join(folder, 'other.lock') })
    expect(Math.round((Date.parse(lock['expiresAt']) - Date.now()) / 10_000)).toBe(9)
    expect(tool('declare', { task: 'tidy', writes: ['a,b.md', 'memory'], policy: null })).toMatchObject({ granted: true, writes: ['a,b.md', 'memory'] })
    expect(tool('declare', { task: 'other', writes: 'x, memory' })).toMatchObject({ granted: false, conflicts: [{ path: 'memory', task: 'tidy' }] })
    expect(tool('gate', { key: 'heartbeat', cooldown: '15m', pid: process.pid })).toMatchObject({ go: true })
  })

  test('stdin, when the command line does not say which; the command line wins', () => {
    const folder = workspaceFolder()
    expect(lockpact(folder, ['acquire', '--emit', 'tool', '--owner', 'me'], { input: '{"resource":"queue.md","owner":"you"}' }).json()).toMatchObject({ held: true, owner: 'me', file: join(folder, 'queue.md') })
    expect(lockpact(folder, ['acquire', 'b.md', '--emit', 'tool'], { env: { TOOL_INPUT: '{"resource":"queue.md","owner":"you"}' } }).json()).toMatchObject({ held: true, owner: 'you', file: join(folder, 'b.md') })
  })

  test('a stdin that nobody closes does not hang what needs nothing of it', () => {
    const folder = workspaceFolder()
    const { stdout } = spawnSync('sh', ['-c', `sleep 60 | { "${process.execPath}" "${commandPath}" gate heartbeat --emit tool; kill $(pgrep -P $$ sleep) 2>/dev/null; }`], { cwd: folder, encoding: 'utf8', timeout: 30_000 })
    expect(JSON.parse(stdout)).toMatchObject({ go: true })
  })

  test.each([
    ['no JSON', 'queue.md', /TOOL_INPUT must be one JSON object/],
    ['a list', '[]', /one JSON object/],
    ['an unknown name', '{"resource":"a","colour":"red"}', /no input "colour"; there are resource, ttl, .*lock_file/],
    ['a name of Object', '{"resource":"a","constructor":"x"}', /no input "constructor"/],
    ['a number without a unit', '{"resource":"a","ttl":90}', /--ttl needs a unit/],
    ['seconds that are none', '{"resource":"a","ttl_seconds":"90"}', /ttl_seconds takes a number/],
    ['an object for a text', '{"resource":{"a":1}}', /resource takes a text/],
    ['nothing', '', /usage: lockpact acquire/],
  ])('%s is an error in one object, and nothing is taken', (_, input, message) => {
    const folder = workspaceFolder()
    const { status, json } = lockpact(folder, ['acquire', '--emit', 'tool'], { env: { TOOL_INPUT: input } })
    expect(status).toBe(0)
    expect(json()).toMatchObject({ error: { code: 'EINVAL', message: expect.stringMatching(message) } })
    expect(existsSync(join(folder, 'a.lock'))).toBe(false)
  })

  test('no workspace is an error, too', () => {
    expect(lockpact(tempFolder(), ['gate', 'heartbeat', '--emit', 'tool']).json()).toEqual({ error: { code: 'EINVAL', message: expect.stringContaining('lockpact init') } })
  })
})

test('a hook has its session from stdin: what it takes is found by the shell of the same agent', () => {
  const folder = workspaceFolder()
  expect(lockpact(folder, ['gate', 'heartbeat', '--emit', 'hook'], { input: '{"session_id":"abc","prompt":"x"}' }).status).toBe(0)
  expect(lockpact(folder, ['gate', 'heartbeat', '--emit', 'hook'], { input: 'not json' }).status).toBe(2)
  expect(lockpact(folder, ['done', '--json'], { env: { CLAUDE_CODE_SESSION_ID: 'abc' } }).json()).toMatchObject({ ended: true, key: 'heartbeat' })
})
