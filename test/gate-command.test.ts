/* `gate`, `done`, `fail`, `free`, `slots`, as a shell meets them. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commandPath, eventsOf, lockpact, startNode, tempFolder, workspaceFolder } from './support.js'

const time = expect.stringMatching(/^20\d\d-\d\d-\d\dT[\d:.]+Z$/)
const token = expect.stringMatching(/^[0-9a-f-]{36}$/)
const inSession = (session: string) => ({ env: { LOCKPACT_SESSION: session } })

describe('gate', () => {
  test('go prints the token alone; the words say until when and what to type next', () => {
    const { status, stdout, stderr } = lockpact(workspaceFolder(), ['gate', 'heartbeat', '--owner', 'hourly'])
    expect(status).toBe(0)
    expect(stdout).toMatch(/^[0-9a-f-]{36}\n$/)
    expect(stderr).toMatch(/^lockpact: go: heartbeat is yours until 20\S+; then: lockpact done heartbeat --token "\$TOKEN" --note "…"\n$/)
  })

  test('refused while somebody is at it: who, since when, until when; 75 and nothing on stdout', () => {
    const folder = workspaceFolder()
    lockpact(folder, ['gate', 'heartbeat', '--owner', 'hourly'])
    const { status, stdout, stderr } = lockpact(folder, ['gate', 'heartbeat'])
    expect([status, stdout]).toEqual([75, ''])
    expect(stderr).toMatch(/^lockpact: skip heartbeat: "hourly" is at it since 20\S+; until 20\S+\. Look: lockpact slots\n$/)
  })

  test('refused because it was done: with the note, and when to ask again', () => {
    const folder = workspaceFolder()
    const first = lockpact(folder, ['gate', 'heartbeat', '--owner', 'hourly'])
    lockpact(folder, ['done', 'heartbeat', '--token', first.token, '--note', 'replied to the review'])
    const { status, stderr } = lockpact(folder, ['gate', 'heartbeat', '--cooldown', '15m'])
    expect(status).toBe(75)
    for (const part of ['"hourly" has done it at 20', 'replied to the review', 'open again at 20']) expect(stderr).toContain(part)
    expect(lockpact(folder, ['gate', 'heartbeat']).status).toBe(0)
  })

  test('--json prints what the design fixes, granted and refused', () => {
    const folder = workspaceFolder()
    const granted = lockpact(folder, ['gate', 'report', '--slot', 'v1.2', '--owner', 'weekly', '--json'])
    expect(granted.json()).toEqual({ go: true, key: 'report', slot: 'v1.2', token, expiresAt: time, recovered: null, failures: 0, next: 'lockpact done report --token "$TOKEN" --note "…"' })
    const running = lockpact(folder, ['gate', 'report', '--slot', 'v1.2', '--json'])
    expect(running.status).toBe(75)
    expect(running.json()).toEqual({ go: false, key: 'report', slot: 'v1.2', reason: 'running', by: 'weekly', at: time, until: time, note: null })
    lockpact(folder, ['done', 'report', '--token', granted.json()['token'], '--note', 'sent'])
    expect(lockpact(folder, ['gate', 'report', '--slot', 'v1.2', '--json']).json()).toEqual({ go: false, key: 'report', slot: 'v1.2', reason: 'done', by: 'weekly', at: time, until: null, note: 'sent' })
    expect(lockpact(folder, ['gate', 'report', '--cooldown', '1h', '--json']).json()).toMatchObject({ go: false, slot: null, reason: 'cooldown', until: time })
  })

  test('--pid: open again as soon as that process is dead; who follows is told', async () => {
    const folder = workspaceFolder()
    const child = startNode('setInterval(() => {}, 1000); say("up")')
    await child.line()
    lockpact(folder, ['gate', 'heartbeat', '--pid', String(child.pid), '--owner', 'nightly'])
    expect(lockpact(folder, ['gate', 'heartbeat']).status).toBe(75)
    child.process.kill('SIGKILL')
    await child.ended
    const next = lockpact(folder, ['gate', 'heartbeat', '--json'])
    expect(next.json()).toMatchObject({ go: true, recovered: { by: 'nightly', why: 'dead' }, failures: 1 })
    expect(next.stderr).toContain('the run before, of "nightly"')
    expect(eventsOf(folder)).toMatchObject([{ type: 'skipped', what: 'slot:heartbeat', against: 'nightly' }, { type: 'recovered', against: 'nightly', why: 'dead' }])
  })

  test('a damaged record is moved aside, and the answer is go; that is said also with -q', () => {
    for (const quiet of [[], ['-q']]) {
      const folder = workspaceFolder()
      writeFileSync(join(folder, '.lockpact/slots.json'), '{"v":1,"rev":3,"slots":[\n{"key":"heart')
      const { status, stdout, stderr } = lockpact(folder, ['gate', 'heartbeat', ...quiet])
      expect([status, stdout.length]).toEqual([0, 37])
      expect(stderr).toMatch(/^lockpact: \S+slots\.json could not be parsed; it was moved to /)
      expect(readdirSync(join(folder, '.lockpact')).filter((name) => name.includes('corrupt'))).toHaveLength(1)
    }
  })

  test('a token that cannot be printed is given back', () => {
    const folder = workspaceFolder()
    const { status, stderr } = startSh(folder, 'gate heartbeat > /dev/full')
    expect([status, stderr]).toEqual([73, expect.stringContaining('cannot write to stdout (ENOSPC)')])
    expect(lockpact(folder, ['gate', 'heartbeat']).status).toBe(0)
  })
})

describe('done, fail, free', () => {
  test.each([
    ['done', 'done', 75],
    ['fail', 'failed', 0],
    ['free', 'free', 0],
  ])('%s ends a run as %s', (name, outcome, afterwards) => {
    const folder = workspaceFolder()
    const { token } = lockpact(folder, ['gate', 'heartbeat', '--owner', 'hourly'])
    const ended = lockpact(folder, [name, 'heartbeat', '--token', token, '--note', 'a note', '--json'])
    expect(ended.json()).toEqual({ ended: true, key: 'heartbeat', outcome, note: 'a note' })
    expect(lockpact(folder, ['slots', '--json']).json()).toMatchObject({ slots: [{ key: 'heartbeat', state: outcome, failures: outcome === 'failed' ? 1 : 0, last: { by: 'hourly', note: 'a note' } }], scope: [folder] })
    expect(lockpact(folder, ['gate', 'heartbeat', '--cooldown', '1h']).status).toBe(afterwards)
  })

  test('the key is that of the run around it, the token that of the session; both may be lost', () => {
    const folder = workspaceFolder()
    lockpact(folder, ['gate', 'heartbeat'], inSession('a'))
    lockpact(folder, ['gate', 'report'], inSession('a'))
    expect(lockpact(folder, ['gate', 'heartbeat'], inSession('b')).status).toBe(75)
    expect(lockpact(folder, ['done', 'heartbeat'], inSession('b'))).toMatchObject({ status: 64, stderr: expect.stringContaining('--token is missing') })
    expect(lockpact(folder, ['done', '--json'], { env: { LOCKPACT_SESSION: 'a', LOCKPACT_SLOT: 'heartbeat' } }).json()).toMatchObject({ ended: true, key: 'heartbeat' })
    expect(lockpact(folder, ['done', '--json'], inSession('a')).json()).toMatchObject({ ended: true, key: 'report' })
    const nothing = lockpact(folder, ['done'], inSession('a'))
    expect(nothing).toMatchObject({ status: 64, stderr: expect.stringMatching(/^lockpact: --token is missing: gate printed it, and the session has no slot in hand\n$/) })
  })

  test('too late: 77, the message says who has it, and the session forgets', () => {
    const folder = workspaceFolder()
    const { token } = lockpact(folder, ['gate', 'heartbeat'], inSession('a'))
    lockpact(folder, ['free', 'heartbeat', '--token', token], inSession('b'))
    const late = lockpact(folder, ['done', '--json'], inSession('a'))
    expect(late.status).toBe(77)
    expect(late.json()).toMatchObject({ ended: false, key: 'heartbeat', code: 'ENOTACQUIRED' })
    expect(late.stderr).toContain('ended as free')
    expect(lockpact(folder, ['done'], inSession('a')).status).toBe(64)
  })

  test('without a session the message says what is missing', () => {
    const folder = workspaceFolder()
    expect(lockpact(folder, ['done', 'heartbeat']).stderr).toContain('there is no session (LOCKPACT_SESSION)')
    expect(lockpact(folder, ['done', 'heartbeat', '--token', 'nonsense']).status).toBe(77)
  })
})

test('slots shows a table, and an owner cannot write control sequences to the terminal', () => {
  const folder = workspaceFolder()
  expect(lockpact(folder, ['slots'])).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('no slots') })
  lockpact(folder, ['gate', 'heartbeat', '--owner', 'a\u001b[2Jb'])
  const { stdout } = lockpact(folder, ['slots'])
  expect(stdout).toMatch(/^STATE +KEY +SLOT +BY +SINCE +FAILED +NOTE\nrunning +heartbeat +- +a\\x1b\[2Jb .* min left/)
})

test('slots shows first what somebody may have to look at', () => {
  const folder = workspaceFolder()
  for (const end of ['done', '', 'fail']) {
    const { token } = lockpact(folder, ['gate', `to-${end || 'run'}`])
    if (end) lockpact(folder, [end, `to-${end}`, '--token', token])
  }
  const [, ...rows] = lockpact(folder, ['slots']).stdout.trimEnd().split('\n')
  expect(rows.map((row) => row.split(/ +/).slice(0, 2))).toEqual([['failed', 'to-fail'], ['running', 'to-run'], ['done', 'to-done']])
})

describe('bad input', () => {
  test.each([
    ['no workspace', tempFolder, ['gate', 'heartbeat'], /lockpact init/],
    ['a --dir that is none', workspaceFolder, ['gate', 'heartbeat', '--dir', '/'], /lockpact init/],
    ['an empty --dir', workspaceFolder, ['gate', 'heartbeat', '--dir', ''], /--dir/],
    ['a duration without a unit', workspaceFolder, ['gate', 'heartbeat', '--cooldown', '15'], /--cooldown needs a unit/],
    ['two rules', workspaceFolder, ['gate', 'heartbeat', '--every', '1h', '--slot', 'x'], /every/],
    ['an unknown option', workspaceFolder, ['gate', 'heartbeat', '--nope'], /--nope/],
    ['no key', workspaceFolder, ['gate'], /usage: lockpact gate KEY/],
    ['an unknown --emit', workspaceFolder, ['gate', 'heartbeat', '--emit', 'loud'], /--emit takes exit, wake, tool, hook/],
    ['--emit where there is none', workspaceFolder, ['slots', '--emit', 'tool'], /--emit/],
    ['a note of two lines', workspaceFolder, ['done', 'x', '--token', 't', '--note', 'a\nb'], /single line/],
  ])('%s: 64 and one sentence', (_, folder, args, message) => {
    const { status, stderr } = lockpact(folder(), args)
    expect([status, stderr]).toEqual([64, expect.stringMatching(message)])
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  })

  test('a record of a newer lockpact is bad data: 65', () => {
    const folder = workspaceFolder()
    writeFileSync(join(folder, '.lockpact/slots.json'), '{"v":2}')
    expect(lockpact(folder, ['gate', 'heartbeat'])).toMatchObject({ status: 65, stderr: expect.stringContaining('newer lockpact') })
    expect(readFileSync(join(folder, '.lockpact/slots.json'), 'utf8')).toBe('{"v":2}')
  })

  test.each(['slots', 'intents'])('%s of a damaged document: 65, and it stays', (name) => {
    const folder = workspaceFolder()
    const file = join(folder, `.lockpact/${name}.json`)
    writeFileSync(file, '{')
    expect(lockpact(folder, [name])).toMatchObject({ status: 65, stdout: '', stderr: expect.stringContaining(`${file} is damaged`) })
    expect(lockpact(folder, [name, '--json'])).toMatchObject({ status: 65 })
    expect(readFileSync(file, 'utf8')).toBe('{')
  })

  test('--dir and LOCKPACT_DIR say where the workspace is', () => {
    const [folder, elsewhere] = [workspaceFolder(), tempFolder()]
    expect(lockpact(elsewhere, ['gate', 'one', '--dir', folder]).status).toBe(0)
    expect(lockpact(elsewhere, ['gate', 'one'], { env: { LOCKPACT_DIR: folder } }).status).toBe(75)
    expect(readdirSync(elsewhere)).toEqual([])
  })
})

function startSh(folder: string, words: string) {
  return spawnSync('sh', ['-c', `"${process.execPath}" "${commandPath}" ${words}`], { cwd: folder, encoding: 'utf8' })
}
