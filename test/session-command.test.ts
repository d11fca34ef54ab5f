/* A session finds its tokens again and is not locked out by its own locks; two sessions exclude each other. */
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { eventsOf, lockpact, tempFolder, until, workspaceFolder } from './support.js'

const as = (session: string) => ({ env: { LOCKPACT_SESSION: session } })

describe('a lost token', () => {
  test('of a lock is found by renew and release; another session has none', () => {
    const folder = workspaceFolder()
    const acquired = lockpact(folder, ['acquire', 'queue.md'], as('a'))
    expect(acquired.stderr).toContain('then: lockpact release queue.md\n')
    expect(lockpact(folder, ['acquire', 'queue.md'], as('b')).status).toBe(75)
    for (const command of ['renew', 'release']) expect(lockpact(folder, [command, 'queue.md'], as('b'))).toMatchObject({ status: 64, stderr: expect.stringContaining('--token is missing') })
    expect(lockpact(folder, ['renew', 'queue.md', '--json'], as('a')).json()).toMatchObject({ renewed: true })
    expect(lockpact(folder, ['release', 'queue.md'], as('a')).status).toBe(0)
    expect(lockpact(folder, ['release', 'queue.md'], as('a')).status).toBe(64)
    expect(lockpact(folder, ['acquire', 'queue.md'], as('b')).status).toBe(0)
  })

  test('is in a file that only its user may read', () => {
    const folder = workspaceFolder()
    lockpact(folder, ['acquire', 'queue.md'], as('a'))
    expect(statSync(join(folder, '.lockpact/sessions/a.json')).mode & 0o777).toBe(0o600)
  })

  test('an explicit one always wins', () => {
    const folder = workspaceFolder()
    lockpact(folder, ['acquire', 'queue.md'], as('a'))
    expect(lockpact(folder, ['release', 'queue.md', '--token', 'nonsense'], as('a')).status).toBe(77)
    expect(lockpact(folder, ['release', 'queue.md'], as('a')).status).toBe(0)
  })

  test('without a workspace nothing is remembered, and the message says so', () => {
    const folder = tempFolder()
    lockpact(folder, ['acquire', 'queue.md'], as('a'))
    expect(lockpact(folder, ['release', 'queue.md'], as('a'))).toMatchObject({ status: 64, stderr: expect.stringContaining('without a workspace (lockpact init)') })
  })

  test('is forgotten a day after its time; a session, a week after it last took anything', () => {
    const folder = workspaceFolder()
    const acquire = (name: string, session: string) => expect(lockpact(folder, ['acquire', name], as(session)).status).toBe(0)
    const file = join(folder, '.lockpact/sessions/a.json')
    const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000)
    const known = () => (JSON.parse(readFileSync(file, 'utf8')) as { session: { name: string }[] }).session.map(({ name }) => basename(name))
    const endFirst = (hours: number) => writeFileSync(file, readFileSync(file, 'utf8').replace(/"until":"[^"]*"/, `"until":"${hoursAgo(hours).toISOString()}"`))
    acquire('1.md', 'a')
    endFirst(23)
    acquire('2.md', 'a')
    expect(known()).toEqual(['1.md', '2.md'])
    endFirst(25)
    acquire('3.md', 'a')
    expect(known()).toEqual(['2.md', '3.md'])
    utimesSync(file, hoursAgo(0), hoursAgo(6 * 24))
    acquire('4.md', 'b')
    utimesSync(file, hoursAgo(0), hoursAgo(8 * 24))
    acquire('5.md', 'c')
    expect(readdirSync(join(folder, '.lockpact/sessions')).sort()).toEqual(['b.json', 'c.json'])
  })

  test('a damaged memory keeps nobody from working', () => {
    const folder = workspaceFolder()
    lockpact(folder, ['acquire', 'a.md'], as('a'))
    writeFileSync(join(folder, '.lockpact/sessions/a.json'), '{')
    expect(lockpact(folder, ['acquire', 'b.md'], as('a')).status).toBe(0)
    expect(lockpact(folder, ['release', 'b.md'], as('a')).status).toBe(0)
  })
})

describe('own locks', () => {
  test('take, append, edit, finish, return go on under the lock that the session holds; from outside they are refused', () => {
    const folder = workspaceFolder()
    writeFileSync(join(folder, 'queue.md'), '- [ ] one\n- [ ] two\n')
    lockpact(folder, ['acquire', 'queue.md'], as('a'))
    const lines = [['take', 'queue.md'], ['return', 'queue.md'], ['take', 'queue.md'], ['finish', 'queue.md', '--result', 'ok'], ['append', 'queue.md', 'a line'], ['edit', 'queue.md', '--', 'cat'], ['tail', 'queue.md']]
    for (const line of lines.filter(([name]) => name !== 'finish' && name !== 'return' && name !== 'tail')) expect(lockpact(folder, [line[0]!, line[1]!, '--wait', '0s', ...line.slice(2)], as('b')), line.join(' ')).toMatchObject({ status: 75 })
    for (const line of lines) expect(lockpact(folder, line, as('a')), line.join(' ')).toMatchObject({ status: 0 })
    expect(readFileSync(join(folder, 'queue.md'), 'utf8')).toMatch(/^- \[x\] one \(ok\)\n- \[ \] two\n20\S+Z a line\n$/)
    expect(lockpact(folder, ['status', '--json'], as('a')).json()['locks']).toHaveLength(1)
  })

  test('acquire gives the inner lock, so that two of one session exclude each other; released from the inside out', () => {
    const folder = workspaceFolder()
    const outer = lockpact(folder, ['acquire', 'queue.md', '--json'], as('a')).json()
    const inner = lockpact(folder, ['acquire', 'queue.md'], as('a'))
    expect(inner.stderr).toMatch(/this session holds it already.*\n.*then: lockpact release queue\.md --lock-file \S+queue\.md\.lock\.inner\n/)
    expect(lockpact(folder, ['acquire', 'queue.md'], as('a')).status).toBe(75)
    expect(lockpact(folder, ['release', 'queue.md', '--json'], as('a')).json()['lockFile']).toBe(`${outer['lockFile']}.inner`)
    expect(lockpact(folder, ['release', 'queue.md', '--json'], as('a')).json()['lockFile']).toBe(outer['lockFile'])
    expect(lockpact(folder, ['acquire', 'queue.md'], as('b')).status).toBe(0)
  })

  test('a declaration is not in the way of its own locks, but of those of others', () => {
    const folder = workspaceFolder()
    lockpact(folder, ['acquire', 'queue.md', '--owner', 'hourly'], as('a'))
    const declare = (session: string) => lockpact(folder, ['declare', '--task', session, '--writes', 'queue.md', '--json'], as(session))
    expect(declare('b').json()).toMatchObject({ granted: false, conflicts: [{ path: 'queue.md', task: null, owner: 'hourly' }] })
    expect(declare('a').json()).toMatchObject({ granted: true })
  })
})

test('what happens to locks is written to the workspace: refused, broken, recovered, held for longer than a second', async () => {
  const folder = workspaceFolder()
  const { token } = lockpact(folder, ['acquire', 'memory/queue.md', '--owner', 'hourly', '--reason', 'the top item'])
  const since = Date.now()
  expect(lockpact(folder, ['append', 'memory/queue.md', 'x', '--owner', 'nightly', '--wait', '0s']).status).toBe(75)
  await until(() => Date.now() - since > 1_100)
  lockpact(folder, ['release', 'memory/queue.md', '--token', token])
  lockpact(folder, ['acquire', 'memory/queue.md', '--owner', 'hourly', '--ttl', '300ms'])
  await until(() => Date.now() - since > 2_000)
  lockpact(folder, ['append', 'memory/queue.md', 'x', '--owner', 'nightly'])
  lockpact(folder, ['acquire', 'memory/queue.md', '--owner', 'hourly'])
  lockpact(folder, ['break', 'memory/queue.md', '--reason', 'its machine is gone'])
  expect(eventsOf(folder)).toMatchObject([
    { type: 'refused', what: 'memory/queue.md', by: 'nightly', against: 'hourly', why: 'the top item' },
    { type: 'held', what: 'memory/queue.md', by: 'hourly', ms: expect.any(Number) },
    { type: 'recovered', what: 'memory/queue.md', by: 'nightly', against: 'hourly' },
    { type: 'broken', what: 'memory/queue.md', against: 'hourly', why: 'its machine is gone' },
  ])
})
