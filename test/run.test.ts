/*
 * `lockpact run` on real processes: what it holds, how it ends, and what is left when anybody is killed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, breakLock, inspectLock } from 'lockpact'
import { declareWrites, gate, initWorkspace, listIntents, listSlots, readEvents } from 'lockpact/work'
import { describe, expect, test } from 'vitest'
import { fillBlocks, remount, smallDisk } from './disk.js'
import { type Child, commandPath, livesInShell, projectFolder, sleep, start, tempFolder, until } from './support.js'

const SHELL = ['sh', '-c']

/** A workspace, and `lockpact run` in it. */
function workspace(dir = tempFolder()) {
  initWorkspace(dir)
  const run = (...args: string[]) => start([process.execPath, commandPath, 'run', ...args], { cwd: dir, env: { CLAUDE_CODE_SESSION_ID: '' } })
  const file = (name: string) => join(dir, name)
  const slot = (key: string) => listSlots({ dir }).find((each) => each.key === key)
  return { dir, run, file, slot }
}

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
// D: stopped while it waits for its own vfork.
const isStopped = (pid: number) => /^State:\t[TD]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
const lockFiles = (dir: string) => readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => /\.lock(\.|$)/.test(name))

/** The pids that a command prints, one a line. */
async function pids(child: Child, count: number): Promise<number[]> {
  const found: number[] = []
  while (found.length < count) found.push(Number(await child.line()))
  return found
}

const timeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0

const SLEEPER = 'echo $$; sleep 600 & echo $!; wait'

describe('holding', () => {
  test('the command runs with the slot, the locks and the intents, and leaves nothing', async () => {
    const { dir, run, slot } = workspace()
    const child = run('--slot', 'heartbeat', '--lock', 'b.md', '--lock', 'a.md', '--writes', 'src,docs', '--task', 'weekly', '--', ...SHELL, 'echo "$LOCKPACT_SLOT"; ls *.lock; sleep 600')
    expect([await child.line(), await child.line(), await child.line()]).toEqual(['heartbeat', 'a.md.lock', 'b.md.lock'])
    expect(slot('heartbeat')?.state).toBe('running')
    // The wrapper, the command, and the watchdog.
    expect(slot('heartbeat')?.running?.processes).toHaveLength(3)
    expect(inspectLock(join(dir, 'a.md')).stamp?.processes).toHaveLength(3)
    expect(listIntents({ dir })).toMatchObject([{ task: 'weekly', writes: ['docs', 'src'], state: 'active' }])
    child.process.kill('SIGTERM')
    expect(await child.ended).toEqual({ code: 143, signal: null })
    expect(lockFiles(dir)).toEqual([])
    expect(listIntents({ dir })).toEqual([])
    expect(readdirSync(join(dir, '.lockpact/sessions'))).toEqual([])
    expect(slot('heartbeat')).toMatchObject({ state: 'failed', failures: 1, last: { note: 'ended by SIGTERM' } })
  })

  test('a skip is decided before the command exists', async () => {
    const { dir, run, file } = workspace()
    const other = await gate('heartbeat', { owner: 'presence', dir })
    const running = run('--slot', 'heartbeat', '--json', '--', 'touch', 'started')
    expect(await running.ended).toEqual({ code: 75, signal: null })
    expect(JSON.parse(running.out())).toMatchObject({ go: false, key: 'heartbeat', reason: 'running', by: 'presence', note: null })
    expect(running.err()).toMatch(/^lockpact: skip heartbeat: "presence" is at it since .*Z; until .*Z\. Look: lockpact slots\n$/)
    if (other.go) await other.complete('replied')
    const cooling = run('--slot', 'heartbeat', '--cooldown', '15m', '-q', '--conflict-exit-code', '0', '--', 'touch', 'started')
    expect(await cooling.ended).toEqual({ code: 0, signal: null })
    expect(cooling.err()).toBe('')
    const done = run('--slot', 'heartbeat', '--every', '24h', '--', 'touch', 'started')
    await done.ended
    expect(done.err()).toContain('"presence" has done it at')
    expect(done.err()).toContain('"replied"')
    expect(existsSync(file('started'))).toBe(false)
    expect(readEvents(dir).map(({ type, why }) => [type, why])).toEqual([['skipped', 'running'], ['skipped', 'cooldown'], ['skipped', 'done']])
  })

  test('refused by a lock or an intent, the slot is free again, and nothing was started', async () => {
    const { dir, run, file, slot } = workspace()
    const lock = await acquireLock(file('queue.md'), { owner: 'presence', detached: true })
    const locked = run('--slot', 's', '--lock', 'queue.md', '--json', '--', 'touch', 'started')
    expect(await locked.ended).toEqual({ code: 75, signal: null })
    expect(JSON.parse(locked.out())).toMatchObject({ held: false, code: 'ELOCKED', holder: { owner: 'presence' } })
    await lock.release()
    await declareWrites({ task: 'other', writes: ['docs'], dir })
    const declared = run('--slot', 's', '--writes', 'docs/a.md', '--json', '--', 'touch', 'started')
    expect(await declared.ended).toEqual({ code: 75, signal: null })
    expect(JSON.parse(declared.out())).toMatchObject({ granted: false, task: 's', conflicts: [{ path: 'docs', task: 'other' }] })
    expect(slot('s')).toMatchObject({ state: 'free', failures: 0 })
    expect(existsSync(file('started'))).toBe(false)
    expect(lockFiles(dir)).toEqual([])
  })

  test('two runs that want the same locks in different order do not wait for each other', async () => {
    const { run, file } = workspace()
    const one = run('--lock', 'a', '--lock', 'b', '--wait', '30s', '--', ...SHELL, 'sleep 0.2; echo 1 >> log')
    const two = run('--lock', 'b', '--lock', 'a', '--wait', '30s', '--', ...SHELL, 'sleep 0.2; echo 2 >> log')
    expect([await one.ended, await two.ended]).toEqual([{ code: 0, signal: null }, { code: 0, signal: null }])
    expect(readFileSync(file('log'), 'utf8').trim().split('\n').sort()).toEqual(['1', '2'])
  })

  test('a run inside a run goes on under the locks of the outer one', async () => {
    const { dir, run } = workspace()
    const inner = `${process.execPath} ${commandPath} run --lock queue.md -- ls`
    const child = run('--lock', 'queue.md', '--', ...SHELL, inner)
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
    expect(child.out().split('\n').filter(Boolean)).toEqual(['queue.md.lock', 'queue.md.lock.inner'])
    const outsider = start([process.execPath, commandPath, 'run', '--lock', 'queue.md', '--', 'true'], { cwd: dir, env: { LOCKPACT_SESSION: 'another' } })
    expect(await outsider.ended).toEqual({ code: 0, signal: null })
    expect(lockFiles(dir)).toEqual([])
  })

  test('so does a change within a run within a run', async () => {
    const { dir, run, file } = workspace()
    const own = [process.execPath, commandPath]
    const child = run('--lock', 'q', '--', ...own, 'run', '--lock', 'q', '--', ...own, 'append', 'q', 'hi')
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
    expect(readFileSync(file('q'), 'utf8')).toMatch(/Z hi\n$/)
    expect(lockFiles(dir)).toEqual([])
  })

  test('paths are those of the folder where it is typed', async () => {
    const { dir, file } = workspace()
    mkdirSync(file('below'))
    const child = start([process.execPath, commandPath, 'run', '--writes', 'q.md,name:deploy', '--lock', 'q.md', '--', ...SHELL, 'ls; read -r go'], { cwd: file('below'), env: { LOCKPACT_SESSION: '' } })
    expect(await child.line()).toBe('q.md.lock')
    expect(listIntents({ dir })).toMatchObject([{ writes: ['below/q.md', 'name:deploy'] }])
    child.process.stdin!.end('go\n')
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
  })
})

describe('while it runs', () => {
  test('the slot and what is declared are renewed', async () => {
    const { dir, run, slot } = workspace()
    const child = run('--slot', 's', '--writes', 'docs', '--ttl', '9s', '--', ...SHELL, 'echo; read -r go')
    await child.line()
    const ends = () => [slot('s')!.running!.until, listIntents({ dir })[0]!.expiresAt]
    const [ofSlot, ofIntent] = ends()
    await until(() => ends()[0]! > ofSlot! && ends()[1]! > ofIntent!)
    child.process.stdin!.end('go\n')
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
  })

  test.each([
    ['the slot', ['--slot', 's'], 'slots.json', { what: 'slot:s', by: 'hourly' }],
    ['what was declared', ['--writes', 'docs', '--task', 'weekly'], 'intents.json', { what: 'docs', by: 'weekly' }],
    ['a lock', ['--lock', 'q.md'], '../q.md.lock', { what: 'q.md', by: 'hourly' }],
  ])('%s is lost: the command is ended, and that is an event', async (_, what, record, event) => {
    const { dir, run, file } = workspace()
    const child = run(...what, '--owner', 'hourly', '--ttl', '3s', '--', ...SHELL, SLEEPER)
    await pids(child, 2)
    rmSync(file(`.lockpact/${record}`))
    expect(await child.ended, child.err()).toEqual({ code: 76, signal: null })
    expect(readEvents(dir).filter(({ type }) => type === 'lost')).toMatchObject([event])
  })

  test('a long --ttl is renewed in its own time', async () => {
    const { run } = workspace()
    const child = run('--slot', 's', '--ttl', '90d', '--', ...SHELL, 'cat .lockpact/slots.json; sleep 1; cat .lockpact/slots.json')
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
    const [before, after] = child.out().match(/"rev":\d+/g)!
    expect([after, child.err()]).toEqual([before, ''])
  })
})

describe('within a session', () => {
  /** `lockpact` as the shell of one agent. */
  const shell = (dir: string, ...args: string[]) => start([process.execPath, commandPath, ...args], { cwd: dir, env: { LOCKPACT_SESSION: 'agent' } })

  test('two runs of one agent exclude each other', async () => {
    const { dir, file } = workspace()
    writeFileSync(file('counter'), '0')
    const runs = [1, 2, 3].map(() => shell(dir, 'run', '--lock', 'counter', '--wait', '30s', '--', ...SHELL, 'n=$(cat counter); sleep 0.3; echo $((n+1)) > counter'))
    for (const each of runs) expect(await each.ended, each.err()).toEqual({ code: 0, signal: null })
    expect(readFileSync(file('counter'), 'utf8')).toBe('3\n')
  })

  test('what a run goes on under does not end before it; and cannot be released meanwhile', async () => {
    const { dir, file } = workspace()
    expect(await shell(dir, 'acquire', 'q.md', '--ttl', '2s').ended).toEqual({ code: 0, signal: null })
    const child = shell(dir, 'run', '--lock', 'q.md', '--', ...SHELL, 'echo; read -r go')
    await child.line()
    const release = shell(dir, 'release', 'q.md')
    expect(await release.ended).toEqual({ code: 75, signal: null })
    expect(release.err()).toContain('still goes on under this lock: end that first')
    await sleep(3_000)
    await expect(acquireLock(file('q.md'))).rejects.toMatchObject({ code: 'ELOCKED' })
    child.process.stdin!.end('go\n')
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
    expect(await shell(dir, 'release', 'q.md').ended).toEqual({ code: 0, signal: null })
  })

  test('what it goes on under is broken: it is ended', async () => {
    const { dir, file } = workspace()
    await shell(dir, 'acquire', 'q.md', '--ttl', '2s').ended
    const child = shell(dir, 'run', '--lock', 'q.md', '--', ...SHELL, SLEEPER)
    const group = await pids(child, 2)
    await breakLock(file('q.md'), { reason: 'test' })
    expect(await child.ended).toEqual({ code: 76, signal: null })
    expect(group.filter(isAlive)).toEqual([])
  })

  test('a memory that is lost is no reason to think that anything was given back', async () => {
    const { dir, run, slot } = workspace()
    const child = run('--slot', 's', '--ttl', '1500ms', '--', ...SHELL, 'echo; sleep 3')
    await child.line()
    for (const name of readdirSync(join(dir, '.lockpact/sessions'))) rmSync(join(dir, '.lockpact/sessions', name))
    await sleep(2_000)
    expect(slot('s')?.state).toBe('running')
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
    expect(slot('s')?.state).toBe('done')
  })

  test('what the command gives back by itself is not lost', async () => {
    const { dir, slot } = workspace()
    const script = '"$NODE" "$LOCKPACT" release q.md && "$NODE" "$LOCKPACT" withdraw && "$NODE" "$LOCKPACT" done && "$NODE" "$LOCKPACT" done; echo "$?"; sleep 1.5'
    const child = start([process.execPath, commandPath, 'run', '--slot', 's', '--lock', 'q.md', '--writes', 'docs', '--ttl', '1s', '--', ...SHELL, script], { cwd: dir, env: { NODE: process.execPath, LOCKPACT: commandPath, CLAUDE_CODE_SESSION_ID: '' } })
    expect(await child.ended, child.err()).toEqual({ code: 0, signal: null })
    expect(child.out()).toBe('77\n')
    expect(child.err()).toContain('nobody is at "s": the last run ended as done at')
    expect(slot('s')?.state).toBe('done')
  })

  test('one lock by two names is one lock', async () => {
    const { run } = workspace()
    expect(await run('--lock', 'q.md', '--lock', './q.md', '--', 'true').ended).toEqual({ code: 0, signal: null })
  })
})

describe('endings', () => {
  test.each([
    ['exit status 0 is done', [], 'exit 0', 0, { state: 'done', failures: 0, last: { note: null } }],
    ['another is a failure', [], 'exit 3', 3, { state: 'failed', failures: 1, last: { note: 'exit status 3' } }],
    ['so is a signal', [], 'kill -9 $$', 137, { state: 'failed', failures: 1, last: { note: 'ended by SIGKILL' } }],
    ['explicit: exit status 0 alone ships nothing', ['--done', 'explicit'], 'exit 0', 0, { state: 'free', failures: 0 }],
    ['explicit: a failure is one', ['--done', 'explicit'], 'exit 1', 1, { state: 'failed', failures: 1 }],
    ['the command says it itself', ['--done', 'explicit'], '"$NODE" "$LOCKPACT" done --note "replied to the review"', 0, { state: 'done', last: { note: 'replied to the review' } }],
    ['and may fail afterwards', ['--done', 'explicit'], '"$NODE" "$LOCKPACT" done --note replied; exit 4', 4, { state: 'done', failures: 0 }],
    ['it may say that it failed', [], '"$NODE" "$LOCKPACT" fail --note "no network"', 0, { state: 'failed', failures: 1, last: { note: 'no network' } }],
    ['or that there was nothing to do', [], '"$NODE" "$LOCKPACT" free', 0, { state: 'free' }],
  ] as const)('%s', async (_, options, script, code, expected) => {
    const { dir, slot } = workspace()
    const child = start([process.execPath, commandPath, 'run', '--slot', 's', ...options, '--', ...SHELL, script], { cwd: dir, env: { NODE: process.execPath, LOCKPACT: commandPath, CLAUDE_CODE_SESSION_ID: '' } })
    expect(await child.ended, child.err()).toEqual({ code, signal: null })
    expect(slot('s')).toMatchObject(expected)
  })

  test('a command that cannot be started: 127, or 126, and a failure', async () => {
    const { run, slot, file } = workspace()
    expect(await run('--slot', 's', '--', 'no-such-command').ended).toEqual({ code: 127, signal: null })
    writeFileSync(file('plain'), 'text')
    expect(await run('--slot', 's', '--', './plain').ended).toEqual({ code: 126, signal: null })
    expect(slot('s')).toMatchObject({ state: 'failed', failures: 2 })
  })

  test('the time is over: the whole group ends', async () => {
    const { dir, run, slot } = workspace()
    const child = run('--slot', 's', '--lock', 'q', '--timeout', '500ms', '--', ...SHELL, SLEEPER)
    const group = await pids(child, 2)
    expect(await child.ended).toEqual({ code: 75, signal: null })
    expect(group.filter(isAlive)).toEqual([])
    expect(slot('s')).toMatchObject({ state: 'failed', last: { note: 'timed out after 0.5 s' } })
    expect(lockFiles(dir)).toEqual([])
  })

  test('what the command leaves behind is ended, before anybody else gets in', async () => {
    const { dir, run, slot } = workspace()
    const child = run('--slot', 's', '--lock', 'q', '--', ...SHELL, 'sleep 600 >/dev/null 2>&1 & echo $!')
    const [orphan] = await pids(child, 1)
    expect(await child.ended).toEqual({ code: 0, signal: null })
    expect(isAlive(orphan!)).toBe(false)
    expect(slot('s')?.state).toBe('done')
    expect(lockFiles(dir)).toEqual([])
  })

  test('broken by force under it: the command is ended, and the slot has failed', async () => {
    const { run, file, slot } = workspace()
    const child = run('--slot', 's', '--lock', 'queue.md', '--', ...SHELL, SLEEPER)
    const group = await pids(child, 2)
    await breakLock(file('queue.md'), { reason: 'test' })
    expect(await child.ended).toEqual({ code: 76, signal: null })
    expect(child.err()).toContain('queue.md was lost; the command is being ended')
    expect(group.filter(isAlive)).toEqual([])
    expect(slot('s')).toMatchObject({ state: 'failed', last: { note: 'lost while running' } })
  })

  test('broken in its last moment, it has not been held to the end', async () => {
    const { run, file } = workspace()
    const child = run('--lock', 'queue.md', '--', ...SHELL, 'echo; rm queue.md.lock')
    await child.line()
    expect(await child.ended).toEqual({ code: 76, signal: null })
    expect(existsSync(file('queue.md.lock'))).toBe(false)
  })
})

describe('signals', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
    ['SIGQUIT', 131],
  ] as const)('%s is passed on, to the whole group', async (signal, code) => {
    const { dir, run, slot } = workspace()
    const child = run('--slot', 's', '--lock', 'q', '--', ...SHELL, 'sleep 600 & echo $!; exec sleep 600')
    const group = await pids(child, 1)
    child.process.kill(signal)
    expect(await child.ended).toEqual({ code, signal: null })
    await until(() => !group.some(isAlive))
    expect(slot('s')).toMatchObject({ state: 'failed', last: { note: `ended by ${signal}` } })
    expect(lockFiles(dir)).toEqual([])
  })

  test('a command that handles a signal decides itself', async () => {
    const { run, slot } = workspace()
    const child = run('--slot', 's', '--', ...SHELL, 'trap "exit 0" INT; echo $$; while :; do sleep 0.05; done')
    await pids(child, 1)
    child.process.kill('SIGINT')
    expect(await child.ended).toEqual({ code: 0, signal: null })
    expect(slot('s')?.state).toBe('done')
  })

  test('one that ignores SIGTERM is killed', async () => {
    const { dir, run, slot } = workspace()
    const child = run('--slot', 's', '--lock', 'q', '--', ...SHELL, 'trap "" TERM; echo $$; while :; do sleep 0.05; done')
    const group = await pids(child, 1)
    child.process.kill('SIGTERM')
    expect(await child.ended).toEqual({ code: 137, signal: null })
    expect(group.filter(isAlive)).toEqual([])
    expect(slot('s')).toMatchObject({ state: 'failed', last: { note: 'ended by SIGKILL' } })
    expect(lockFiles(dir)).toEqual([])
  })

  test('the command is killed: its children end too', async () => {
    const { run, slot } = workspace()
    const child = run('--slot', 's', '--', ...SHELL, SLEEPER)
    const [leader, other] = await pids(child, 2)
    process.kill(leader!, 'SIGKILL')
    expect(await child.ended).toEqual({ code: 137, signal: null })
    expect(isAlive(other!)).toBe(false)
    expect(slot('s')).toMatchObject({ state: 'failed', failures: 1 })
  })

  test('a child of the command is killed: that is the command’s affair', async () => {
    const { run, slot } = workspace()
    const child = run('--slot', 's', '--', ...SHELL, `${SLEEPER}; echo went on; exit 0`)
    const [, other] = await pids(child, 2)
    process.kill(other!, 'SIGKILL')
    expect(await child.line()).toBe('went on')
    expect(await child.ended).toEqual({ code: 0, signal: null })
    expect(slot('s')?.state).toBe('done')
  })

  test('the wrapper is killed: the group ends, and nobody gets in before', async () => {
    const { dir, run, slot, file } = workspace()
    // It takes its time to end.
    const child = run('--slot', 's', '--lock', 'q', '--writes', 'docs', '--', ...SHELL, 'trap "sleep 3; exit" TERM; sleep 600 & echo $$; echo $!; while :; do sleep 0.05; done')
    const group = await pids(child, 2)
    // Not when its output is closed: the group has that, too.
    const killed = new Promise((resolve) => child.process.once('exit', resolve))
    child.process.kill('SIGKILL')
    await killed
    const next = run('--slot', 's', '--lock', 'q', '--', 'true')
    expect(await next.ended).toEqual({ code: 75, signal: null })
    const waiting = run('--lock', 'q', '--wait', '30s', '--', ...SHELL, `${livesInShell(group[0]!)} || echo alone > witness`)
    expect(await waiting.ended).toEqual({ code: 0, signal: null })
    expect(readFileSync(file('witness'), 'utf8')).toBe('alone\n')
    expect(group.filter(isAlive)).toEqual([])
    expect(slot('s')).toMatchObject({ state: 'stale', why: 'dead' })
    const after = run('--slot', 's', '--writes', 'docs/a', '--', 'true')
    expect(await after.ended, after.err()).toEqual({ code: 0, signal: null })
    expect(after.err()).toContain('did not say how it ended (dead)')
    expect(slot('s')).toMatchObject({ state: 'done', failures: 0 })
    expect(lockFiles(dir)).toEqual([])
  })

  test('the wrapper is killed, and the command ignores SIGTERM: it is killed, and the lock free only then', async () => {
    const { run, file } = workspace()
    const child = run('--lock', 'q', '--', ...SHELL, 'trap "" TERM; sleep 600 & echo $$; echo $!; while :; do sleep 0.05; done')
    const group = await pids(child, 2)
    child.process.kill('SIGKILL')
    const lock = await acquireLock(file('q'), { wait: '30s' })
    expect(group.filter(isAlive)).toEqual([])
    await lock.release()
  })

  test('stopped and continued in time: it goes on', async () => {
    const { run, slot, file } = workspace()
    const child = run('--slot', 's', '--lock', 'q', '--', ...SHELL, 'echo $$; while [ ! -e enough ]; do sleep 0.05; done; echo went on')
    const [leader] = await pids(child, 1)
    child.process.kill('SIGTSTP')
    await until(() => isStopped(leader!) && isStopped(child.pid))
    child.process.kill('SIGCONT')
    await until(() => !isStopped(leader!))
    writeFileSync(file('enough'), '')
    expect(await child.line()).toBe('went on')
    expect(await child.ended).toEqual({ code: 0, signal: null })
    expect(slot('s')?.state).toBe('done')
  })

  test('stopped for longer than its TTL, and followed by another: it does not go on', async () => {
    const { run, file, slot } = workspace()
    const child = run('--slot', 's', '--lock', 'q', '--ttl', '1s', '--', ...SHELL, 'echo $$; while :; do sleep 0.05; touch working; done')
    const [leader] = await pids(child, 1)
    child.process.kill('SIGTSTP')
    await until(() => isStopped(leader!) && isStopped(child.pid))
    const successor = await acquireLock(file('q'), { owner: 'successor', wait: '30s' })
    const before = timeOf(file('working'))
    child.process.kill('SIGCONT')
    expect(await child.ended).toEqual({ code: 76, signal: null })
    expect(timeOf(file('working'))).toBe(before)
    expect(successor.held).toBe(true)
    expect(await successor.release()).toBe(true)
    expect(slot('s')?.state).toBe('failed')
  })
})

test('wrappers killed at any moment: never two commands at once, and the next one always gets in', { timeout: 120_000 }, async () => {
  const { dir, run, file } = workspace()
  mkdirSync(file('alive'))
  // Each says that it is there, looks for others that live, and works for a moment.
  writeFileSync(file('job.sh'), `for other in alive/*; do [ -e "$other" ] && ${livesInShell('${other#alive/}')} && echo "$other beside $$" >> overlaps; done\ntouch "alive/$$"; echo start >> log; sleep 0.05; echo end >> log; rm -f "alive/$$"\n`)
  let kills = 0
  for (let round = 0; round < 40; round++) {
    const child = run('--slot', 's', '--lock', 'q', '--wait', '20s', '-q', '--', 'sh', 'job.sh')
    if (round % 2 === 0) {
      await sleep(Math.random() * 250)
      if (child.process.exitCode === null && child.process.kill('SIGKILL')) kills++
    }
    const { code } = await child.ended
    // The group of one that was killed may still be ending.
    expect([0, 75, null]).toContain(code)
  }
  let last = run('--slot', 's', '--lock', 'q', '--wait', '20s', '--', 'true')
  for (let tries = 0; (await last.ended).code === 75 && tries < 60; tries++) {
    await sleep(100)
    last = run('--slot', 's', '--lock', 'q', '--wait', '20s', '--', 'true')
  }
  expect(await last.ended, last.err()).toEqual({ code: 0, signal: null })
  expect(existsSync(file('overlaps')) ? readFileSync(file('overlaps'), 'utf8') : '').toBe('')
  // One killed between creating and writing the lock of its own memory leaves an empty file there, for a week.
  expect(lockFiles(dir).filter((name) => !name.startsWith('.lockpact/sessions/'))).toEqual([])
  const log = readFileSync(file('log'), 'utf8').trim().split('\n')
  console.log(`run: ${kills} wrappers killed, ${log.filter((line) => line === 'start').length} commands started, ${log.filter((line) => line === 'end').length} ended, none beside another`)
  expect(kills).toBeGreaterThan(5)
})

describe('a failing disk', () => {
  test('full: nothing is started, and nothing is left', async (context) => {
    const { dir, run, file } = workspace(smallDisk(context))
    const filler = fillBlocks(dir)
    const child = run('--slot', 's', '--lock', 'q', '--', 'touch', '/tmp/never-touched')
    expect(await child.ended).toEqual({ code: 73, signal: null })
    expect(child.err()).toContain('the disk is full (ENOSPC)')
    rmSync(filler)
    expect(lockFiles(dir)).toEqual([])
    expect(await run('--slot', 's', '--lock', 'q', '--', 'touch', file('started')).ended).toEqual({ code: 0, signal: null })
  })

  test('full while it runs: what was done cannot be recorded, which is said, and the slot is open again', async (context) => {
    const { dir, run, slot } = workspace(smallDisk(context))
    const child = run('--slot', 's', '--lock', 'q', '--', ...SHELL, 'echo started; read -r go')
    await child.line()
    const filler = fillBlocks(dir)
    child.process.stdin!.end('go\n')
    expect(await child.ended, child.err()).toEqual({ code: 73, signal: null })
    expect(child.err()).toContain('the disk is full (ENOSPC)')
    rmSync(filler)
    await until(() => slot('s')?.state === 'stale')
    expect(await run('--slot', 's', '--lock', 'q', '--', 'true').ended).toEqual({ code: 0, signal: null })
    expect(lockFiles(dir)).toEqual([])
  })

  test('read-only: a clear refusal', async (context) => {
    const { dir, run } = workspace(smallDisk(context))
    remount(dir, 'ro')
    const child = run('--slot', 's', '--', 'true')
    expect(await child.ended).toEqual({ code: 73, signal: null })
    expect(child.err()).toContain('the file system is read-only')
  })
})

test('the first three hours of the fires, in compressed time: no duplicate, and no legitimate fire lost', { timeout: 90_000 }, async () => {
  const { dir, run, file } = workspace()
  const MINUTE = 100
  const fires = readFileSync(join(projectFolder, 'test/demo/fires.csv'), 'utf8').trim().split('\n').slice(1).map((line) => line.split(',')).filter(([minute]) => Number(minute) <= 180)
  const started = performance.now()
  const skips: number[] = []
  // What stalls this test must not shorten the pauses between the fires.
  let late = 0
  for (const [minute, job, without] of fires as [string, string, string][]) {
    const wait = Number(minute) * MINUTE + late - (performance.now() - started)
    if (wait > 0) await sleep(wait)
    const rule = job === 'hourly' ? ['--cooldown', `${15 * MINUTE}ms`] : []
    const begun = performance.now()
    const child = run('--slot', 'heartbeat', '--owner', job, ...rule, '-q', '--', ...SHELL, `echo ${minute} >> shipped`)
    const { code } = await child.ended
    if (code === 75) skips.push(performance.now() - begun)
    else late += performance.now() - begun
    expect([minute, job, code]).toEqual([minute, job, without === 'shipped' ? 0 : 75])
  }
  const shipped = readFileSync(file('shipped'), 'utf8').trim().split('\n')
  expect(shipped).toEqual(fires.filter(([, , without]) => without === 'shipped').map(([minute]) => minute))
  expect(readEvents(dir).filter(({ type, by }) => type === 'skipped' && by === 'hourly')).toHaveLength(3)
  skips.sort((a, b) => a - b)
  console.log(`fires through lockpact run: ${fires.length}, shipped ${shipped.length}, skipped ${skips.length}; a skip as a whole process took ${Math.round(skips[skips.length >> 1]!)} ms (median), in place of 30 to 60 s`)
})

describe('bad input', () => {
  test.each([
    [['--', 'true'], 'needs something to hold'],
    [['--slot', 's'], 'the command is missing: lockpact run … -- CMD'],
    [['--lock', 'q', '--cooldown', '1m', '--', 'true'], '--cooldown is about a slot'],
    [['--slot', 's', '--done', 'maybe', '--', 'true'], '--done is exit or explicit'],
    [['--slot', 's', '--timeout', '30', '--', 'true'], '--timeout needs a unit'],
    [['--slot', 's', '--every', '0s', '--', 'true'], 'every must be longer than 0'],
    [['--writes', '../elsewhere', '--', 'true'], 'outside of the workspace'],
    [['--writes', 'a', '--policy', 'shout', '--', 'true'], 'policy must be refuse, queue or warn'],
  ])('%j', async (args, message) => {
    const { run, dir } = workspace()
    const child = run(...args)
    expect(await child.ended).toEqual({ code: 64, signal: null })
    expect(child.err()).toContain(message)
    expect(child.err().trim().split('\n')).toHaveLength(1)
    expect(lockFiles(dir)).toEqual([])
  })

  test('without a workspace, locks can be held, and a slot names what to do', async () => {
    const dir = tempFolder()
    const run = (...args: string[]) => start([process.execPath, commandPath, 'run', ...args], { cwd: dir })
    expect(await run('--lock', 'q', '--', 'true').ended).toEqual({ code: 0, signal: null })
    const slot = run('--slot', 's', '--', 'true')
    expect(await slot.ended).toEqual({ code: 64, signal: null })
    expect(slot.err()).toContain('lockpact init')
  })
})
