/* `declare`, `intents`, `withdraw`, as a shell meets them. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { commandPath, lockpact, sleep, start, tempFolder, workspaceFolder } from './support.js'

const time = expect.stringMatching(/^20\d\d-\d\d-\d\dT[\d:.]+Z$/)
const declare = (folder: string, task: string, writes: string, ...more: string[]) => lockpact(folder, ['declare', '--task', task, '--writes', writes, ...more])

test('granted prints the token alone, and what to type next; --json what the design fixes', () => {
  const folder = workspaceFolder()
  const { status, stdout, stderr } = declare(folder, 'tidy', 'memory')
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^[0-9a-f-]{36}\n$/)])
  expect(stderr).toMatch(/^lockpact: declared until 20\S+; then: lockpact withdraw --task tidy --token "\$TOKEN"\n$/)
  expect(declare(folder, 'report', 'reports,queue.md::head', '--writes', 'name:deploy', '--json').json()).toEqual({
    granted: true,
    task: 'report',
    token: expect.any(String),
    writes: ['name:deploy', 'queue.md::head', 'reports'],
    overlaps: [],
    expiresAt: time,
    next: 'lockpact withdraw --task report --token "$TOKEN"',
  })
})

test('refused names the task in the way, 75; --json has the conflicts', () => {
  const folder = workspaceFolder()
  declare(folder, 'tidy', 'memory', '--owner', 'nightly')
  const { status, stdout, stderr } = declare(folder, 'report', 'memory/queue.md,reports')
  expect([status, stdout]).toEqual([75, ''])
  for (const part of ['"tidy"', '"nightly"', 'since 20', 'until 20', 'lockpact intents']) expect(stderr).toContain(part)
  const refused = declare(folder, 'report', 'memory/queue.md', '--json')
  expect(refused.json()).toEqual({ granted: false, task: 'report', conflicts: [{ path: 'memory', task: 'tidy', owner: 'nightly', since: time, expiresAt: time }], message: expect.any(String) })
})

test('--policy warn lets in and says so; queue waits for its turn, and for --wait at most', async () => {
  const folder = workspaceFolder()
  const { token } = declare(folder, 'tidy', 'memory')
  const warned = declare(folder, 'other', 'memory/a.md', '--policy', 'warn', '--json')
  expect(warned.json()).toMatchObject({ granted: true, overlaps: [{ task: 'tidy' }] })
  lockpact(folder, ['withdraw', '--task', 'other', '--token', warned.json()['token']])
  expect(declare(folder, 'third', 'memory', '--policy', 'queue', '--wait', '200ms').status).toBe(75)
  const waiting = start([process.execPath, commandPath, 'declare', '--task', 'fourth', '--writes', 'memory', '--policy', 'queue'], { cwd: folder })
  expect(await Promise.race([waiting.ended, sleep(800).then(() => 'waits')])).toBe('waits')
  expect(lockpact(folder, ['withdraw', '--task', 'tidy', '--token', token]).status).toBe(0)
  expect((await waiting.ended).code).toBe(0)
  expect(waiting.err()).toContain('in the way: memory ("tidy")')
})

test('intents shows them, withdraw ends them; the session knows task and token', () => {
  const folder = workspaceFolder()
  const as = { env: { LOCKPACT_SESSION: 'a' } }
  expect(lockpact(folder, ['intents'])).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('nothing is declared') })
  lockpact(folder, ['declare', '--task', 'tidy', '--writes', 'memory'], as)
  expect(lockpact(folder, ['intents']).stdout).toMatch(/^STATE +TASK .*\nactive +tidy +- .* memory\n$/)
  expect(lockpact(folder, ['intents', '--json']).json()).toMatchObject({ intents: [{ task: 'tidy', writes: ['memory'], state: 'active' }], scope: [folder] })
  expect(lockpact(folder, ['withdraw', '--task', 'tidy'])).toMatchObject({ status: 64, stderr: expect.stringContaining('--token is missing') })
  expect(lockpact(folder, ['withdraw', '--json'], as).json()).toEqual({ withdrawn: true, task: 'tidy' })
  expect(lockpact(folder, ['withdraw'], as).status).toBe(64)
  expect(lockpact(folder, ['withdraw', '--task', 'tidy', '--token', 'x', '--json'])).toMatchObject({ status: 77 })
})

test.each([
  ['no task', ['--writes', 'a'], 64, /--task is missing/],
  ['nothing to write', ['--task', 't'], 64, /--writes is missing/],
  ['a policy that is none', ['--task', 't', '--writes', 'a', '--policy', 'hope'], 64, /policy must be refuse, queue or warn/],
  ['a path outside', ['--task', 't', '--writes', '/etc/passwd'], 64, /outside of the workspace/],
])('%s: %s ends with %i', (_, args, code, message) => {
  expect(lockpact(workspaceFolder(), ['declare', ...args])).toMatchObject({ status: code, stderr: expect.stringMatching(message) })
})

test('no workspace: 64, and it names lockpact init; settings that are no JSON: 65; a damaged registry: it still answers', () => {
  expect(declare(tempFolder(), 't', 'a')).toMatchObject({ status: 64, stderr: expect.stringContaining('lockpact init') })
  const folder = workspaceFolder()
  writeFileSync(join(folder, '.lockpact/config.json'), 'policy: queue')
  expect(declare(folder, 't', 'a')).toMatchObject({ status: 65, stderr: expect.stringContaining('config.json is not JSON') })
  writeFileSync(join(folder, '.lockpact/config.json'), '{"policy":"warn"}')
  writeFileSync(join(folder, '.lockpact/intents.json'), '{')
  expect(declare(folder, 't', 'a')).toMatchObject({ status: 0, stderr: expect.stringContaining('was moved to') })
})
