/*
 * One leader among many: `electLeader`, `lockpact lead`, on real processes.
 */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, breakLock, inspectLock } from 'lockpact'
import { electLeader } from 'lockpact/jobs'
import { initWorkspace } from 'lockpact/work'
import { describe, expect, onTestFinished, test } from 'vitest'
import { electionStorm } from './election.js'
import { type Child, commandPath, livesInShell, start, startNode, tempFolder, until } from './support.js'

const ELECTION = "const { electLeader } = await import('lockpact/jobs')\n"
const standing = (file: string, options = '') =>
  startNode(
    `${ELECTION}const election = await electLeader(${JSON.stringify(file)}, { owner: 'o' + process.pid, ttl: '1s', onElected: () => say('leads'), onLost: () => say('lost'), onPassive: ({ owner }) => say('follows ' + owner), ${options} })
process.stdin.on('data', (data) => String(data) === 'exit' ? process.exit() : election.resign().then(() => say('resigned'))).resume()`,
    { cwd: join(import.meta.dirname, '..') },
  )

const isAlive = (pid: number) => {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
const isStopped = (pid: number) => /^State:\t[TD]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))

describe('electLeader', () => {
  test('the first leads, the others say once who, and follow: after its death, its exit, its resignation', async () => {
    const file = join(tempFolder(), 'scheduler')
    const [one, two] = [standing(file), standing(file)]
    const [first, second] = (await Promise.race([one.line().then(() => [one, two]), two.line().then((line) => (line === 'leads' ? [two, one] : [one, two]))])) as [Child, Child]
    expect(await second.line()).toBe(`follows o${first.pid}`)
    const third = standing(file)
    expect(await third.line()).toBe(`follows o${first.pid}`)
    first.process.kill('SIGKILL')
    const [next, last] = (await Promise.race([second.line().then((line) => (line === 'leads' ? [second, third] : [third, second])), third.line().then((line) => (line === 'leads' ? [third, second] : [second, third]))])) as [Child, Child]
    await until(() => last.out().includes(`follows o${next.pid}`))
    const fourth = standing(file)
    expect(await fourth.line()).toBe(`follows o${next.pid}`)
    next.process.stdin!.write('resign')
    await until(() => next.out().includes('resigned'))
    await until(() => last.out().includes('leads') || fourth.out().includes('leads'))
    const leading = last.out().includes('leads') ? last : fourth
    leading.process.stdin!.write('exit')
    await leading.ended
    const rest = leading === last ? fourth : last
    await until(() => rest.out().includes('leads'))
    // Once for each leader.
    for (const child of [second, third, fourth]) {
      const said = child.out().split('\n').filter((line) => line.startsWith('follows'))
      expect(new Set(said).size).toBe(said.length)
    }
  })

  test('a leader that was suspended beyond its lease is told, before it acts, and follows the next', async () => {
    const file = join(tempFolder(), 'scheduler')
    const sleeper = startNode(
      `${ELECTION}let lead
const election = await electLeader(${JSON.stringify(file)}, { owner: 'sleeper', ttl: '500ms', onElected: (lock) => { say('leads'); lead = lock }, onLost: (reason) => say('lost ' + reason.code), onPassive: ({ owner }) => say('follows ' + owner) })
setInterval(() => { if (election.leading) say('acts') }, 50)`,
      { cwd: join(import.meta.dirname, '..') },
    )
    expect(await sleeper.line()).toBe('leads')
    sleeper.process.kill('SIGSTOP')
    const next = standing(file)
    await until(() => next.out().includes('leads'), 30_000)
    const before = sleeper.out().length
    sleeper.process.kill('SIGCONT')
    await until(() => sleeper.out().includes(`follows o${next.pid}`))
    const said = sleeper.out().slice(before).split('\n').filter(Boolean)
    // What was on its way when it was suspended.
    expect(said).toEqual(['lost ECOMPROMISED', `follows o${next.pid}`])
  })

  test('a resumed session gets its lease back by its token, with a new process; while the old one lives, it waits', async () => {
    const file = join(tempFolder(), 'scheduler')
    const old = startNode(`${ELECTION}await electLeader(${JSON.stringify(file)}, { owner: 'session', ttl: '1h', onElected: (lock) => say(lock.token), onLost: () => {} })
setInterval(() => {}, 1000)`, { cwd: join(import.meta.dirname, '..') })
    const token = await old.line()
    const resumed = standing(file, `token: ${JSON.stringify(token)}`)
    expect(await resumed.line()).toBe('follows session')
    old.process.kill('SIGKILL')
    expect(await resumed.line()).toBe('leads')
    expect(inspectLock(file).stamp?.processes).toMatchObject([{ pid: resumed.pid }])
    expect(inspectLock(file).stamp?.id).not.toBe(token)
  })

  test('out of sight, the token is what tells a resumed session from a stranger', async () => {
    const file = join(tempFolder(), 'scheduler')
    const old = await acquireLock(file, { owner: 'session', ttl: '1h' })
    const text = readFileSync(old.lockFile, 'utf8')
    onTestFinished(() => void old.release().catch(() => {}))
    // Another boot: nothing is known about its process.
    writeFileSync(old.lockFile, text.replace(/"boot":"."/, '"boot":"0').replace(/("boot":")../, '$1zz'))
    const [elected, passive] = [[] as string[], [] as string[]]
    const stranger = await electLeader(file, { onElected: () => void elected.push('stranger'), onLost: () => {}, onPassive: ({ owner }) => passive.push(owner!) })
    expect([stranger.leading, elected, passive]).toEqual([false, [], ['session']])
    const resumed = await electLeader(file, { owner: 'resumed', token: old.token, onElected: () => void elected.push('resumed'), onLost: () => {} })
    expect([resumed.leading, elected]).toEqual([true, ['resumed']])
    await resumed.resign()
    await until(() => elected.length === 2)
    expect(elected).toEqual(['resumed', 'stranger'])
    await stranger.resign()
    expect(existsSync(old.lockFile)).toBe(false)
  })

  test('broken by a person: told, and a candidate again; work that goes on is awaited', async () => {
    const file = join(tempFolder(), 'scheduler')
    const said: string[] = []
    const election = await electLeader(file, {
      owner: 'me',
      ttl: '1s',
      async onElected(_, signal) {
        said.push('leads')
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        said.push('winding down')
        await new Promise((resolve) => setTimeout(resolve, 100))
        said.push('idle')
      },
      onLost: () => void said.push('lost'),
    })
    await breakLock(file, { reason: 'test' })
    await until(() => said.filter((word) => word === 'leads').length === 2)
    expect(election.leading).toBe(true)
    await election.resign()
    expect(said).toEqual(['leads', 'lost', 'winding down', 'idle', 'leads', 'winding down', 'idle'].map((word, index) => said[index] ?? word))
    expect(said.slice(-2)).toEqual(['winding down', 'idle'])
    expect(existsSync(`${file}.lock`)).toBe(false)
  })

  test('ends by its signal; what a listener throws ends the candidacy', async () => {
    const file = join(tempFolder(), 'scheduler')
    const end = new AbortController()
    const election = await electLeader(file, { signal: end.signal, onElected: () => {}, onLost: () => {} })
    expect(election.leading).toBe(true)
    end.abort()
    await election.ended
    const thrower = await electLeader(file, { onElected: () => Promise.reject(new Error('no scheduler')), onLost: () => {} })
    await expect(thrower.ended).rejects.toThrow('no scheduler')
    expect(existsSync(`${file}.lock`)).toBe(false)
    await expect(electLeader(file, {} as never)).rejects.toThrow('electLeader needs the function onElected')
    await expect(electLeader('', { onElected: () => {}, onLost: () => {} })).rejects.toMatchObject({ code: 'EINVAL' })
    await expect(electLeader(file, { ttl: '1', onElected: () => {}, onLost: () => {} } as never)).rejects.toMatchObject({ code: 'EINVAL' })
  })
})

describe('lead', () => {
  function place() {
    const dir = tempFolder()
    initWorkspace(dir)
    const lead = (session: string, script: string, ...options: string[]) =>
      start([process.execPath, commandPath, 'lead', 'scheduler', ...options, '--', 'sh', '-c', script], { cwd: dir, env: { LOCKPACT_SESSION: session, CLAUDE_CODE_SESSION_ID: '' } })
    return { dir, lead, lock: join(dir, 'scheduler.lock') }
  }
  const SCRIPT = 'echo $$; while :; do sleep 0.05; echo >> working.$PPID; done'

  test('one command runs; the next begins when it ends, and says once who led', async () => {
    const { lead, lock } = place()
    const one = lead('one', 'echo runs; read line; exit 3')
    expect(await one.line()).toBe('runs')
    const two = lead('two', 'echo runs')
    await until(() => two.err().includes('is led by "one"'))
    one.process.stdin!.end('go\n')
    expect(await one.ended).toEqual({ code: 3, signal: null })
    expect(await two.line()).toBe('runs')
    expect(await two.ended, two.err()).toEqual({ code: 0, signal: null })
    expect(two.err().match(/is led by/g)).toHaveLength(1)
    expect(existsSync(lock)).toBe(false)
  })

  test('its wrapper is killed: the command ends before the next begins', async () => {
    const { lead } = place()
    const one = lead('one', SCRIPT)
    const pid = Number(await one.line())
    const two = lead('two', `${livesInShell(pid)} && echo beside || echo alone`)
    await until(() => two.err().includes('is led by "one"'))
    one.process.kill('SIGKILL')
    expect(await two.line()).toBe('alone')
    expect(await two.ended).toEqual({ code: 0, signal: null })
    expect(two.err()).toContain('which did not hand over')
  })

  test('a signal is passed on, and ends the candidacy of one that waits', async () => {
    const { lead, lock } = place()
    const one = lead('one', SCRIPT)
    await one.line()
    const two = lead('two', SCRIPT)
    await until(() => two.err().includes('is led by "one"'))
    two.process.kill('SIGTERM')
    expect(await two.ended).toEqual({ code: null, signal: 'SIGTERM' })
    one.process.kill('SIGTERM')
    expect(await one.ended).toEqual({ code: 143, signal: null })
    expect(existsSync(lock)).toBe(false)
  })

  test('broken by a person: the command is ended, and this one is a candidate again', async () => {
    const { dir, lead } = place()
    const one = lead('one', SCRIPT)
    const first = Number(await one.line())
    await breakLock(join(dir, 'scheduler'), { reason: 'test' })
    const second = Number(await one.line())
    expect(isAlive(first)).toBe(false)
    expect(isAlive(second)).toBe(true)
    expect(one.err()).toContain('was lost')
  })

  test('a wrapper that is suspended takes its command along; followed by another, it does not go on', async () => {
    const { dir, lead } = place()
    const one = lead('one', SCRIPT, '--ttl', '1s')
    const pid = Number(await one.line())
    one.process.kill('SIGSTOP')
    await until(() => isStopped(pid))
    const two = lead('two', SCRIPT, '--ttl', '1s')
    await until(() => two.out() !== '', 30_000)
    const worked = () => statSync(join(dir, `working.${one.pid}`)).size
    const before = worked()
    one.process.kill('SIGCONT')
    await until(() => !isAlive(pid))
    expect(worked()).toBe(before)
    await until(() => one.err().includes('is led by "two"'))
    // It follows in its turn.
    two.process.kill('SIGTERM')
    await until(() => one.out().trim().split('\n').length === 2)
  })

  test('suspended and continued in time, both go on', async () => {
    const { dir, lead } = place()
    const one = lead('one', SCRIPT, '--ttl', '1h')
    const pid = Number(await one.line())
    one.process.kill('SIGSTOP')
    await until(() => isStopped(pid))
    one.process.kill('SIGCONT')
    // It may have been stopped before it wrote anything.
    const written = () => statSync(join(dir, `working.${one.pid}`), { throwIfNoEntry: false })?.size ?? 0
    const before = written()
    await until(() => written() > before + 3)
    expect(isAlive(pid)).toBe(true)
  })

  test('a resumed session gets its lease back', async () => {
    const { dir, lead } = place()
    const one = lead('one', 'echo runs; trap "" TERM; while :; do sleep 0.05; done', '--ttl', '1h')
    await one.line()
    one.process.kill('SIGKILL')
    await one.ended
    // Another waits as well; the lease of a dead one is anybody's.
    const again = lead('one', 'echo runs again')
    expect(await again.line()).toBe('runs again')
    expect(await again.ended).toEqual({ code: 0, signal: null })
    expect(readdirSync(dir).filter((name) => name.includes('.lock')).sort()).toEqual(['.lockpact'])
  })

  test.each([
    [['lead', 'f'], 'a command is missing'],
    [['lead', '--', 'true'], 'usage: lockpact lead'],
    [['lead', 'f', '--ttl', '15', '--', 'true'], '--ttl needs a unit'],
    [['lead', 'f', '--ttl', '1ms', '--', 'true'], 'ttl must be at least'],
  ])('%j', async (args, message) => {
    const child = start([process.execPath, commandPath, ...args], { cwd: tempFolder() })
    expect(await child.ended).toEqual({ code: 64, signal: null })
    expect(child.err()).toContain(message)
  })
})

test('a storm of elections: 20 s of SIGKILL and SIGSTOP', { timeout: 120_000 }, async () => {
  console.log(`leader: ${await electionStorm(tempFolder(), 20_000)}`)
})
