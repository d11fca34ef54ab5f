import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock } from 'lockpact'
import { describe, expect, test } from 'vitest'
import { commandPath, start, startNode, tempFolder } from './support.js'

function run(folder: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [commandPath, ...args], { cwd: folder, encoding: 'utf8' })
  return { status, stdout, stderr, json: () => JSON.parse(stdout) as Record<string, any> }
}

const COMMANDS = spawnSync(process.execPath, [commandPath, '--help'], { encoding: 'utf8' })
  .stdout.split('\n')
  .flatMap((line) => /^ {2}(\w+) /.exec(line)?.[1] ?? [])

describe('acquire', () => {
  test('prints the token alone, says the rest on stderr, and the lock outlives it', () => {
    const folder = tempFolder()
    const { status, stdout, stderr } = run(folder, 'acquire', 'queue.md', '--owner', 'hourly')
    expect(status).toBe(0)
    expect(stdout).toMatch(/^[0-9a-f-]{36}\n$/)
    expect(stderr).toContain('lockpact release queue.md --token "$TOKEN"')
    expect(stderr).not.toContain(stdout.trim()) // cron mails stderr
    expect(JSON.parse(readFileSync(join(folder, 'queue.md.lock'), 'utf8'))).toMatchObject({ v: 1, owner: 'hourly', renews: false, ttlMs: 600_000, processes: [] })
  })

  test('--json prints what the design fixes, granted and refused', () => {
    const folder = tempFolder()
    const granted = run(folder, 'acquire', 'queue.md', '--owner', 'hourly', '--reason', 'the top item', '--json')
    expect(granted.json()).toEqual({ held: true, file: join(folder, 'queue.md'), lockFile: join(folder, 'queue.md.lock'), token: expect.any(String), id: expect.stringMatching(/^[0-9a-f]{16}$/), owner: 'hourly', expiresAt: expect.stringMatching(/^\d{4}-.*Z$/), recovered: null })
    const refused = run(folder, 'acquire', 'queue.md', '--json')
    expect(refused.status).toBe(75)
    expect(refused.json()).toMatchObject({ held: false, code: 'ELOCKED', file: join(folder, 'queue.md'), holder: { owner: 'hourly', id: granted.json()['id'] }, verdict: 'out-of-sight', retryAfterMs: expect.any(Number) })
    expect(JSON.stringify(refused.json())).not.toContain(granted.json()['token'])
  })

  test('a refusal names who, since when, until when, why, and the next command', () => {
    const folder = tempFolder()
    run(folder, 'acquire', 'queue.md', '--owner', 'hourly', '--reason', 'the top item')
    const { status, stdout, stderr } = run(folder, 'acquire', 'queue.md')
    expect(status).toBe(75)
    expect(stdout).toBe('')
    for (const part of ['"hourly"', 'since 20', 'until 20', '"the top item"', 'lockpact status']) expect(stderr).toContain(part)
  })

  test('-q and --conflict-exit-code make it fit for a crontab line', () => {
    const folder = tempFolder()
    run(folder, 'acquire', 'queue.md')
    expect(run(folder, 'acquire', 'queue.md', '-q', '--conflict-exit-code', '0')).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(run(folder, 'acquire', 'queue.md', '--conflict-exit-code', '3').status).toBe(3)
    for (const wrong of ['', 'x', '-1', '256', '1.5']) expect(run(folder, 'acquire', 'other.md', `--conflict-exit-code=${wrong}`).status).toBe(64)
  })

  test('--wait waits for the holder', async () => {
    const folder = tempFolder()
    const lock = await acquireLock(join(folder, 'queue.md'))
    const waiting = start([process.execPath, commandPath, 'acquire', 'queue.md', '--wait', '30s'], { cwd: folder })
    const raced = await Promise.race([waiting.ended, new Promise((resolve) => setTimeout(resolve, 400, 'waits'))])
    expect(raced).toBe('waits')
    await lock.release()
    expect((await waiting.ended).code).toBe(0)
  })

  test('--pid binds it: it is free when that process is dead, and --json says from whom it was recovered', async () => {
    const folder = tempFolder()
    const child = startNode('setInterval(() => {}, 1000); say("up")')
    await child.line()
    expect(run(folder, 'acquire', 'queue.md', '--pid', String(child.pid), '--owner', 'bound').status).toBe(0)
    expect(run(folder, 'acquire', 'queue.md').status).toBe(75)
    child.process.kill('SIGKILL')
    await child.ended
    expect(run(folder, 'acquire', 'queue.md', '--json').json()).toMatchObject({ held: true, recovered: { owner: 'bound' } })
  })

  test('--token takes a detached lock over, with a new token; the old one is worth nothing', () => {
    const folder = tempFolder()
    const old = run(folder, 'acquire', 'queue.md').stdout.trim()
    const token = run(folder, 'acquire', 'queue.md', '--token', old).stdout.trim()
    expect(token).toMatch(/^[0-9a-f-]{36}$/)
    expect(token).not.toBe(old)
    expect(run(folder, 'release', 'queue.md', '--token', old).status).toBe(77)
    expect(run(folder, 'release', 'queue.md', '--token', token).status).toBe(0)
  })

  test('watches a hung holder for five seconds, so that it does not block a crontab for ever', async () => {
    const folder = tempFolder()
    const hung = startNode(`await acquireLock('queue.md', { ttl: '1s', owner: 'hung' }); say('held'); setInterval(() => {}, 100)`, { cwd: folder })
    await hung.line()
    hung.process.kill('SIGSTOP')
    await new Promise((resolve) => setTimeout(resolve, 1500))
    const refusedAtOnce = await acquireLock(join(folder, 'queue.md')).catch((error: unknown) => error)
    expect(refusedAtOnce).toMatchObject({ code: 'ELOCKED', verdict: 'silent' })
    expect(run(folder, 'acquire', 'queue.md', '--json').json()).toMatchObject({ held: true, recovered: { owner: 'hung' } })
  })
})

describe('a token that nobody got to know', () => {
  test.each(['> /dev/full', '| true'])('does not leave a lock behind (acquire %s)', (into) => {
    const folder = tempFolder()
    const { stderr } = spawnSync('sh', ['-c', `${process.execPath} ${commandPath} acquire queue.md ${into}`], { cwd: folder, encoding: 'utf8' })
    // Whether `true` has gone by then is a race; if not, the token was written.
    if (into === '> /dev/full') expect(stderr).toContain('cannot write to stdout (ENOSPC)')
    if (stderr.includes('cannot write')) expect(readdirSync(folder)).toEqual([])
    expect(stderr).not.toMatch(/\n\s+at /)
  })
})

describe('renew and release', () => {
  test('renew makes the lease begin anew, release ends it', async () => {
    const folder = tempFolder()
    const granted = run(folder, 'acquire', 'queue.md', '--json').json()
    await new Promise((resolve) => setTimeout(resolve, 20))
    const renewed = run(folder, 'renew', 'queue.md', '--token', granted['token'], '--json').json()
    expect(renewed).toMatchObject({ renewed: true })
    expect(Date.parse(renewed['expiresAt'])).toBeGreaterThan(Date.parse(granted['expiresAt']))
    expect(run(folder, 'release', 'queue.md', '--token', granted['token'], '--json').json()).toMatchObject({ released: true })
    expect(readdirSync(folder)).toEqual([])
  })

  test("a token that is not the holder's is refused with 77, also the public id and the token of a released lock", () => {
    const folder = tempFolder()
    const { token, id } = run(folder, 'acquire', 'queue.md', '--json').json()
    for (const command of ['renew', 'release']) {
      for (const wrong of [id, 'nonsense']) expect(run(folder, command, 'queue.md', '--token', wrong, '--json')).toMatchObject({ status: 77 })
    }
    expect(existsSync(join(folder, 'queue.md.lock'))).toBe(true)
    expect(run(folder, 'release', 'queue.md', '--token', token).status).toBe(0)
    const again = run(folder, 'release', 'queue.md', '--token', token, '--json')
    expect(again).toMatchObject({ status: 77 })
    expect(again.json()).toMatchObject({ released: false, code: 'ENOTACQUIRED', holder: null })
  })
})

describe('status', () => {
  test('shows every lock below a folder, of a file, and what is not a lock of ours', async () => {
    const folder = tempFolder()
    mkdirSync(join(folder, 'memory'))
    writeFileSync(join(folder, 'memory/Cargo.lock'), '[[package]]\n')
    const lock = await acquireLock(join(folder, 'memory/queue.md'), { owner: 'hourly', reason: 'why' })
    const all = run(folder, 'status', '--json').json()
    expect(all['scope']).toEqual([folder])
    expect(all['locks']).toEqual([
      { file: join(folder, 'memory/Cargo'), lockFile: join(folder, 'memory/Cargo.lock'), state: 'held', verdict: 'foreign', owner: null, reason: null, since: null, expiresAt: null, remainingMs: null, foreign: true },
      { file: join(folder, 'memory/queue.md'), lockFile: join(folder, 'memory/queue.md.lock'), state: 'held', verdict: 'alive', owner: 'hourly', reason: 'why', since: lock.stamp.acquiredAt, expiresAt: lock.stamp.expiresAt, remainingMs: expect.any(Number), foreign: false },
    ])
    expect(run(folder, 'status', 'memory/queue.md', '--json').json()['locks']).toHaveLength(1)
    expect(run(folder, 'status', 'memory/queue.md').stdout).toMatch(/STATE.*\nheld +alive +\S+queue\.md\.lock +hourly /)
    await lock.release()
    expect(run(folder, 'status', 'memory/queue.md')).toMatchObject({ status: 0, stdout: '', stderr: expect.stringMatching(/^lockpact: no locks/) })
  })

  test('an owner cannot write control sequences to the terminal', async () => {
    const folder = tempFolder()
    const lock = await acquireLock(join(folder, 'queue.md'), { owner: 'a\u001b[2Jb', reason: 'x\ny' })
    for (const output of [run(folder, 'status').stdout, run(folder, 'acquire', 'queue.md').stderr]) expect(output).not.toContain('\u001b')
    expect(run(folder, 'status').stdout.trimEnd().split('\n')).toHaveLength(2)
    await lock.release()
  })
})

describe('sweep and break', () => {
  test('sweep removes what is stale, keeps what is held or foreign, and --dry-run only says so', async () => {
    const folder = tempFolder()
    const child = startNode(`await acquireLock('dead.md'); say('held'); setInterval(() => {}, 1000)`, { cwd: folder })
    await child.line()
    child.process.kill('SIGKILL')
    await child.ended
    writeFileSync(join(folder, 'Cargo.lock'), '[[package]]\n')
    const lock = await acquireLock(join(folder, 'held.md'))
    const actions = (...args: string[]) => Object.fromEntries((run(folder, 'sweep', ...args, '--json').json()['swept'] as { lockFile: string; action: string }[]).map(({ lockFile, action }) => [lockFile.slice(folder.length + 1), action]))
    expect(actions('--dry-run')).toEqual({ 'Cargo.lock': 'kept', 'dead.md.lock': 'would remove', 'held.md.lock': 'kept' })
    expect(existsSync(join(folder, 'dead.md.lock'))).toBe(true)
    expect(actions()).toEqual({ 'Cargo.lock': 'kept', 'dead.md.lock': 'removed', 'held.md.lock': 'kept' })
    expect(readdirSync(folder).sort()).toEqual(['Cargo.lock', 'held.md.lock'])
    await lock.release()
  })

  test('break needs a reason, removes whatever is there, and says what it was', async () => {
    const folder = tempFolder()
    run(folder, 'acquire', 'queue.md', '--owner', 'hourly')
    expect(run(folder, 'break', 'queue.md').status).toBe(64)
    expect(existsSync(join(folder, 'queue.md.lock'))).toBe(true)
    expect(run(folder, 'break', 'queue.md', '--reason', 'test', '--json').json()).toMatchObject({ broken: true, file: join(folder, 'queue.md'), was: { owner: 'hourly' } })
    expect(readdirSync(folder)).toEqual([])
    expect(run(folder, 'break', 'queue.md', '--reason', 'test', '--json').json()).toMatchObject({ broken: false, was: null })
    writeFileSync(join(folder, 'Cargo.lock'), '[[package]]\n')
    expect(run(folder, 'break', 'Cargo', '--reason', 'test').status).toBe(0)
    expect(readdirSync(folder)).toEqual([])
  })

  test('break clears a guard that is not of our making, which a refused release names', () => {
    const folder = tempFolder()
    writeFileSync(join(folder, 'queue.md.lock.guard'), 'x\n')
    const token = run(folder, 'acquire', 'queue.md').stdout.trim()
    const { status, stderr } = run(folder, 'release', 'queue.md', '--token', token)
    expect(status).toBe(75)
    expect(stderr).toContain(`queue.md.lock.guard is in the way: not a stamp. If it stays: lockpact break ${join(folder, 'queue.md')} --reason`)
    expect(run(folder, 'break', 'queue.md', '--reason', 'test').status).toBe(0)
    expect(readdirSync(folder)).toEqual([])
  })

  test('sweep keeps an old empty file, which may be another program’s, and says so', () => {
    const folder = tempFolder()
    const path = join(folder, 'flocked.lock')
    writeFileSync(path, '')
    utimesSync(path, 0, 0)
    expect(run(folder, 'sweep').stdout).toMatch(/^kept .*flocked\.lock: it is empty or torn, and may be another program/)
    expect(existsSync(path)).toBe(true)
  })
})

describe('every command', () => {
  test.each(COMMANDS)('%s --help shows usage, options, examples and exit status', (command) => {
    const { status, stdout } = run(tempFolder(), command, '--help')
    expect(status).toBe(0)
    for (const part of [`usage: lockpact ${command}`, 'options:', '--json', 'examples:', 'exit status:']) expect(stdout).toContain(part)
    expect(stdout.split('\n').filter((line) => line.length > 80 && !line.includes('lockpact '))).toEqual([])
  })

  test('they come in groups, within 80 columns', () => {
    const { stdout } = run(tempFolder(), '--help')
    for (const group of ['locks:', 'slots:', 'write intents:', 'files:']) expect(stdout).toContain(`\n${group}\n  `)
    for (const name of ['acquire', 'gate', 'done', 'declare', 'withdraw', 'take', 'edit']) expect(COMMANDS).toContain(name)
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([])
  })

  test('without words it shows the commands; --version the version', () => {
    const folder = tempFolder()
    expect(run(folder)).toMatchObject({ status: 64, stdout: expect.stringContaining('acquire') })
    expect(run(folder, '--help').status).toBe(0)
    expect(run(folder, '--version').stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  test.each([
    ['an unknown command', ['lock', 'queue.md'], /no command "lock"/],
    ['a name of Object', ['constructor'], /no command/],
    ['an unknown option', ['acquire', 'queue.md', '--nope'], /--nope/],
    ['no operand', ['acquire'], /usage: lockpact acquire/],
    ['too many operands', ['acquire', 'a', 'b'], /usage: lockpact acquire/],
    ['a duration without a unit', ['acquire', 'queue.md', '--ttl', '10'], /--ttl needs a unit: 10ms, 10s or 10m/],
    ['a duration that is none', ['acquire', 'queue.md', '--wait', 'soon'], /--wait must be/],
    ['a pid that is none', ['acquire', 'queue.md', '--pid', '0'], /--pid/],
    ['an empty resource', ['acquire', ''], /empty/],
    ['no token', ['release', 'queue.md'], /--token is missing/],
    ['a name that is too long', ['acquire', 'x'.repeat(10_000)], /too long/],
  ])('%s ends with 64, one sentence, no stack trace, and nothing created', (_, args, message) => {
    const folder = tempFolder()
    const { status, stderr } = run(folder, ...args)
    expect(status).toBe(64)
    expect(stderr).toMatch(message)
    expect(stderr).not.toMatch(/\n\s+at /)
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
    expect(readdirSync(folder)).toEqual([])
  })

  test('names with blanks, quotes and newlines are names, and the suggested command can be typed', () => {
    const folder = tempFolder()
    const name = `it's "a\nb" $HOME.md`
    const { stdout, stderr } = run(folder, 'acquire', name)
    const suggested = /then: lockpact (release [\s\S]+)\n/.exec(stderr)![1]!
    expect(readdirSync(folder)).toEqual([`${name}.lock`])
    const env = { ...process.env, TOKEN: stdout.trim() }
    expect(spawnSync('sh', ['-c', `${process.execPath} ${commandPath} ${suggested}`], { cwd: folder, env }).status).toBe(0)
    expect(readdirSync(folder)).toEqual([])
  })

  test('a lock of another tool is never taken, however old', () => {
    const folder = tempFolder()
    const path = join(folder, 'Cargo.lock')
    writeFileSync(path, '[[package]]\nname = "lockpact"\n')
    utimesSync(path, 0, 0)
    expect(run(folder, 'acquire', 'Cargo').stderr).toContain('not a lock of ours')
    expect(statSync(path).mtimeMs).toBe(0)
  })
})
