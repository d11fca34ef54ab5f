/* What a prompt needs, as one line within double quotes, from a folder where the package is installed. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commandPath, projectFolder, workspaceFolder } from './support.js'

const GATE = `node -e "import('lockpact/work').then((work) => work.gate('heartbeat', { cooldown: '15m', owner: 'hourly' })).then((answer) => { console.log(JSON.stringify(answer)); process.exitCode = answer.go ? 0 : 75 })"`
const DONE = `node -e "import('lockpact/work').then((work) => work.completeSlot('heartbeat', '$TOKEN', { note: 'replied' })).catch((error) => { console.error(error.message); process.exitCode = 77 })"`
const REQUIRED = GATE.replace("import('lockpact/work').then((work) => work.gate", "require('lockpact/work').gate").replace("owner: 'hourly' }))", "owner: 'hourly' })")
const NPX_GATE = 'npx lockpact gate heartbeat --cooldown 15m --owner hourly'
const NPX_DONE = 'npx lockpact done --note "replied"'
const TAKE = `node -e "import('lockpact/files').then((files) => files.takeItem('memory/queue.md', { owner: 'hourly' })).then((taken) => { console.log(JSON.stringify(taken ?? { item: null })); process.exitCode = taken ? 0 : 75 })"`
const APPEND = 'npx lockpact append memory/heartbeat-log.md "hourly: replied"'

function project(type: string): (line: string, env?: Record<string, string>) => { status: number | null; stdout: string; stderr: string } {
  const folder = workspaceFolder()
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true })
  mkdirSync(join(folder, 'memory'))
  symlinkSync(projectFolder, join(folder, 'node_modules/lockpact'))
  writeFileSync(join(folder, 'node_modules/.bin/lockpact'), `#!/bin/sh\nexec ${process.execPath} ${commandPath} "$@"\n`, { mode: 0o755 })
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'a-project', type }))
  writeFileSync(join(folder, 'memory/queue.md'), '- [ ] one\n')
  return (line, env = {}) => {
    const { LOCKPACT_SESSION, LOCKPACT_DIR, LOCKPACT_SLOT, CLAUDE_CODE_SESSION_ID, ...outer } = process.env
    return spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8', env: { ...outer, ...env } })
  }
}

describe.each(['commonjs', 'module'])('in a project of type %s', (type) => {
  test.each([
    ['import', GATE],
    ['require', REQUIRED],
  ])('gate by %s: go prints the token, a skip ends with 75, and done is told by the token', (_, gate) => {
    const run = project(type)
    const go = run(gate)
    expect([go.status, go.stderr.replace(/^.*ExperimentalWarning.*\n.*--trace-warnings.*\n/m, '')]).toEqual([0, ''])
    const { token, key } = JSON.parse(go.stdout) as { token: string; key: string }
    expect(key).toBe('heartbeat')
    expect(run(gate)).toMatchObject({ status: 75, stdout: expect.stringContaining('"reason":"running","by":"hourly"') })
    expect(run(DONE, { TOKEN: token })).toMatchObject({ status: 0, stderr: '' })
    expect(run(DONE, { TOKEN: token })).toMatchObject({ status: 77, stderr: expect.stringContaining('the run ended as done') })
    expect(run(gate)).toMatchObject({ status: 75, stdout: expect.stringContaining('"note":"replied"') })
  })

  test('the next item of a queue', () => {
    const run = project(type)
    expect(JSON.parse(run(TAKE).stdout)).toMatchObject({ item: { text: 'one', line: 1 } })
    expect(run(TAKE)).toMatchObject({ status: 75, stdout: '{"item":null}\n' })
  })
})

test('by npx, where the session knows key and token', () => {
  const run = project('commonjs')
  const session = { LOCKPACT_SESSION: 'a' }
  expect(run(NPX_GATE, session).status).toBe(0)
  expect(run(NPX_GATE, session)).toMatchObject({ status: 75, stdout: '' })
  expect(run(NPX_DONE, session).status).toBe(0)
  expect(run(NPX_GATE, session)).toMatchObject({ status: 75, stderr: expect.stringContaining('replied') })
  expect(run(APPEND).stdout).toMatch(/^20\S+Z hourly: replied\n$/)
})

test('a line has nothing that a shell would take for its own, but the token', () => {
  for (const line of [GATE, REQUIRED, TAKE]) expect(/^node -e "([^"]*)"$/.exec(line)?.[1]).not.toMatch(/[$`!\\]/)
  expect(/^node -e "([^"]*)"$/.exec(DONE)?.[1]!.replace('$TOKEN', '')).not.toMatch(/[$`!\\]/)
})
