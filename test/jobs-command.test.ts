/*
 * `lockpact jobs` on real processes: the roster from a shell, what a run is given, and that each due time is given to one.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createJob, type Job, listJobs, type NewJob, showJob } from 'lockpact/jobs'
import { declareWrites, gate, initWorkspace, listIntents, listSlots, readEvents } from 'lockpact/work'
import { describe, expect, test } from 'vitest'
import { type Child, commandPath, projectFolder, sleep, start, tempFolder, until } from './support.js'

const LONG_AGO = '2020-01-01T00:00:00.000Z'
const ENV = { LOCKPACT_SESSION: '', CLAUDE_CODE_SESSION_ID: '' }

function workspace() {
  const dir = tempFolder()
  initWorkspace(dir)
  const file = (name: string) => join(dir, name)
  const jobs = (...args: string[]) => start([process.execPath, commandPath, 'jobs', ...args], { cwd: dir, env: ENV })
  const path = file('.lockpact/jobs.json')
  /** What was due long ago is still to be run. */
  const setDue = (...ids: string[]) => {
    let text = readFileSync(path, 'utf8')
    for (const id of ids) text = text.replace(new RegExp(`("id":"${id}".*"nextRunAt":)("[^"]*"|null)`), `$1"${LONG_AGO}"`)
    writeFileSync(path, text)
  }
  const add = (job: Partial<NewJob> & { name: string }) => createJob({ schedule: { kind: 'cron', expr: '0 0 1 1 *' }, ...job } as NewJob, { dir })
  return { dir, file, jobs, path, setDue, add, job: (name: string) => showJob(name, { dir }) }
}

async function json(child: Child, code = 0): Promise<Record<string, unknown>> {
  expect(await child.ended, child.err()).toEqual({ code, signal: null })
  return JSON.parse(child.out()) as Record<string, unknown>
}
const ok = { code: 0, signal: null }
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

describe('the roster', () => {
  test('add, show, list, update, pause, resume, delete', async () => {
    const { dir, file, jobs, job } = workspace()
    writeFileSync(file('prompt.md'), 'Reply.')
    const add = jobs('add', 'heart beat', '--cron', '*/15 * * * *', '--tz', 'Europe/Berlin', '--task-file', 'prompt.md', '--slot', 'heartbeat', '--cooldown', '10m', '--writes', 'a.md,b', '--policy', 'warn', '--timeout', '30m', '--delivery', 'slack:#ops', '--owner', 'me', '--json', '--', 'claude', '-p')
    const { job: added } = (await json(add)) as { job: Job }
    expect(added).toEqual(job('heart beat'))
    expect(added).toMatchObject({
      name: 'heart beat', createdBy: 'me', schedule: { kind: 'cron', expr: '*/15 * * * *', tz: 'Europe/Berlin' }, taskSource: 'prompt.md', slot: { key: 'heartbeat', cooldown: '10m' },
      writes: ['a.md', 'b'], policy: 'warn', timeout: '30m', delivery: { channel: 'slack', target: '#ops' }, command: ['claude', '-p'],
    })
    expect(await json(jobs('list', '--json'))).toEqual({ jobs: [added], scope: [dir] })
    expect(await json(jobs('show', added.id, '--json'))).toEqual({ job: added, scope: [dir] })
    const update = await json(jobs('update', 'HEART BEAT', '--name', 'beat', '--every', '20m', '--task', 'text', '--clear', 'delivery,timeout', '--disable', '--if-rev', '1', '--json'))
    expect(Object.keys(update['changed'] as object).sort()).toEqual(['delivery', 'enabled', 'name', 'schedule', 'task', 'taskSource', 'timeout'])
    expect(job('beat')).toMatchObject({ id: added.id, createdAt: added.createdAt, rev: 2, enabled: false, task: 'text' })
    const stale = jobs('update', 'beat', '--enable', '--if-rev', '1')
    expect(await stale.ended).toEqual({ code: 75, signal: null })
    expect(stale.err()).toContain('has been changed since you read it')
    for (const verb of ['pause', 'resume']) expect(await jobs(verb, 'beat').ended).toEqual(ok)
    const history = jobs('show', 'beat', '--history')
    expect(await history.ended).toEqual(ok)
    expect(history.out().trim().split('\n').map((line) => line.split(' ')[1])).toEqual(['created', 'updated', 'paused', 'resumed'])
    expect(history.out()).toContain('"task":{"before":null,"after":"text"}')
    expect(await jobs('delete', 'beat').ended).toEqual(ok)
    expect(await json(jobs('list', '--json'))).toEqual({ jobs: [], scope: [dir] })
  })

  test('a text copy and its file: where they differ', async () => {
    const { file, jobs, add } = workspace()
    mkdirSync(file('memory'))
    writeFileSync(file('memory/heartbeat-prompt.md'), '# Heartbeat\n\nReply to reviews.\nStop.\n')
    writeFileSync(file('memory/notes.md'), '# Digest\nOne.\n')
    writeFileSync(file('gone.md'), 'x')
    await add({ name: 'Heartbeat', task: '# Heartbeat\n\nReply to everything.\nStop.' })
    await add({ name: 'daily', task: '# Digest\nOne.' })
    await add({ name: 'other', task: 'Nothing alike.' })
    await add({ name: 'reader', taskSource: file('gone.md') })
    rmSync(file('gone.md'))
    expect((await json(jobs('drift', '--json'), 1))['drift']).toMatchObject([
      { job: 'Heartbeat', file: 'memory/heartbeat-prompt.md', state: 'differs', line: 3 },
      { job: 'daily', file: 'memory/notes.md', state: 'same', line: null },
      { job: 'reader', file: 'gone.md', state: 'missing', line: null },
    ])
    expect(await jobs('update', 'heartbeat', '--task-file', 'memory/heartbeat-prompt.md').ended).toEqual(ok)
    expect(await jobs('delete', 'reader').ended).toEqual(ok)
    expect((await json(jobs('drift', '--json')))['drift']).toMatchObject([{ job: 'daily', state: 'same' }])
  })

  test.each([
    [['add'], 64, 'say which JOB'],
    [['add', 'x', '--cron', '61 * * * *', '--task', 't'], 64, '"61" is no minute'],
    [['add', 'x', '--cron', '0 0 31 2 *', '--task', 't'], 64, 'is never due'],
    [['add', 'x', '--cron', '* * * * *', '--tz', 'Europe/Bonn', '--task', 't'], 64, 'there is no time zone "Europe/Bonn"'],
    [['add', 'x', '--at', '2020-01-01T00:00:00Z', '--task', 't'], 64, 'has passed'],
    [['add', '', '--every', '1h', '--task', 't'], 64, 'name must have 1 to 200'],
    [['add', 'x', '--every', '1h', '--task', 'x'.repeat(100_000)], 64, 'task has 100000 bytes'],
    [['add', 'x', '--every', '1h', '--task-file', 'nowhere.md'], 64, 'taskSource must be a file: there is no'],
    [['add', 'x', '--every', '30', '--task', 't'], 64, '--every needs a unit'],
    [['add', 'x', '--every', '1h', '--cron', '* * * * *', '--task', 't'], 64, 'give one of --cron, --every and --at'],
    [['add', 'x', '--every', '1h'], 64, 'a job needs something to do'],
    [['add', 'x', '--task', 't'], 64, 'a job needs a schedule'],
    [['add', 'two', 'words', '--every', '1h', '--task', 't'], 64, 'quote a name with spaces'],
    [['add', 'x', '--every', '1h', '--task', 't', '--cooldown', '1m'], 64, 'give --slot KEY too'],
    [['update', 'known'], 64, 'the patch is empty'],
    [['update', 'unknown', '--task', 't'], 64, 'there is no job "unknown"; there are "known"'],
    [['update', 'known', '--clear', 'colour'], 64, '"colour" is not for an author to say'],
    [['run', 'unknown'], 64, 'there is no job "unknown"'],
    [['due', 'known'], 64, 'jobs run JOB runs one'],
    [['due', '--run', '--every', '1ms'], 64, '--every must be at least'],
    [['frobnicate'], 64, 'jobs has no "frobnicate"'],
  ])('%j', async (args, code, message) => {
    const { dir, jobs, add } = workspace()
    await add({ name: 'known', task: 't' })
    const child = jobs(...args)
    expect(await child.ended).toEqual({ code, signal: null })
    expect(child.err()).toContain(message)
    expect(child.err().trim().split('\n')).toHaveLength(1)
    expect(listJobs({ dir })).toHaveLength(1)
  })

  test('a damaged one: bad data, where it breaks, and it stays', async () => {
    const { jobs, path } = workspace()
    writeFileSync(path, '{"v":1,"rev":3,"jobs":[\n{"id":"job-01')
    for (const args of [['list'], ['due', '--run'], ['run', 'x'], ['add', 'x', '--every', '1h', '--task', 't']]) {
      const child = jobs(...args)
      expect(await child.ended, child.err()).toEqual({ code: 65, signal: null })
      expect(child.err()).toMatch(/it ends in the middle \(line 2, column 7\)/)
    }
    expect(readFileSync(path, 'utf8')).toBe('{"v":1,"rev":3,"jobs":[\n{"id":"job-01')
  })
})

describe('a run', () => {
  const SHOW = ['sh', '-c', 'cat; echo; cat "$LOCKPACT_TASK_FILE"; echo; echo "$LOCKPACT_JOB_NAME $LOCKPACT_SLOT $LOCKPACT_DELIVERY_CHANNEL"']

  test('reads the prompt when it fires, gives it on stdin and as a file, and records its hash', async () => {
    const { dir, file, jobs, add, job } = workspace()
    writeFileSync(file('prompt.md'), 'first')
    await add({ name: 'job', taskSource: file('prompt.md'), command: SHOW, slot: { key: 's' }, delivery: { channel: 'slack', target: '#ops' } })
    const first = jobs('run', 'job')
    expect(await first.ended, first.err()).toEqual(ok)
    expect(first.out()).toBe('first\nfirst\njob s slack\n')
    expect(job('job')).toMatchObject({ lastRunStatus: 'ok', runCount: 1, lastTaskSha256: sha256('first'), running: null, lastRunError: null })
    writeFileSync(file('prompt.md'), 'second')
    const second = jobs('run', 'job')
    expect(await second.ended).toEqual(ok)
    expect(second.out()).toContain('second\nsecond\n')
    expect(job('job')).toMatchObject({ runCount: 2, lastTaskSha256: sha256('second') })
    expect(listSlots({ dir })).toMatchObject([{ key: 's', state: 'done' }])
    expect(readdirSync(file('.lockpact/tasks'))).toEqual([])
  })

  test('a text, a line for the shell, a command for all', async () => {
    const { file, jobs, add } = workspace()
    await add({ name: 'shell', task: 'a text', command: 'tr a-z A-Z > "$LOCKPACT_JOB_NAME.out"' })
    expect(await jobs('run', 'shell').ended).toEqual(ok)
    expect(readFileSync(file('shell.out'), 'utf8')).toBe('A TEXT')
    await add({ name: 'bare', task: 'another' })
    const none = jobs('run', 'bare')
    expect(await none.ended).toEqual({ code: 65, signal: null })
    expect(none.err()).toContain('bare has no command: give it one')
    const given = jobs('run', 'bare', '--', 'cat')
    expect(await given.ended).toEqual(ok)
    expect(given.out()).toBe('another')
  })

  test.each([
    ['its status', 'exit 3', [], { lastRunStatus: 'error', lastRunError: 'exit status 3', consecutiveErrors: 1 }, 3],
    ['a signal', 'kill -9 $$', [], { lastRunStatus: 'error', lastRunError: 'ended by SIGKILL' }, 137],
    ['its timeout', 'sleep 600', ['--timeout', '300ms'], { lastRunStatus: 'error', lastRunError: 'timed out after 0.3 s' }, 75],
    ['a program that is not there', 'exec no-such-program', [], { lastRunStatus: 'error', lastRunError: 'exit status 127' }, 127],
  ] as const)('fails by %s', async (_, script, options, expected, code) => {
    const { jobs, job } = workspace()
    expect(await jobs('add', 'job', '--every', '1h', '--task', 't', ...options, '--', 'sh', '-c', script).ended).toEqual(ok)
    expect(await jobs('run', 'job').ended).toEqual({ code, signal: null })
    expect(job('job')).toMatchObject({ ...expected, runCount: 1, running: null })
  })

  test.each([
    ['"$NODE" "$LOCKPACT" done --note shipped', 'done'],
    ['true', 'free'],
  ])('explicit: after %s its slot is %s', async (script, state) => {
    const { dir, jobs, add } = workspace()
    await add({ name: 'job', task: 't', command: `NODE=${process.execPath} LOCKPACT=${commandPath}; ${script}`, slot: { key: 's' } })
    const child = jobs('run', 'job', '--done', 'explicit')
    expect(await child.ended, child.err()).toEqual(ok)
    expect(listSlots({ dir })).toMatchObject([{ state }])
  })

  test('a prompt file that has vanished is a recorded failure, and nothing is started', async () => {
    const { file, jobs, add, job } = workspace()
    writeFileSync(file('prompt.md'), 'x')
    await add({ name: 'job', taskSource: file('prompt.md'), command: ['touch', 'started'] })
    rmSync(file('prompt.md'))
    const child = jobs('run', 'job')
    expect(await child.ended).toEqual({ code: 73, signal: null })
    expect(child.err()).toContain(`the task of this job is gone: there is no ${file('prompt.md')}`)
    expect(job('job')).toMatchObject({ lastRunStatus: 'error', runCount: 1, consecutiveErrors: 1, running: null })
    expect(job('job').lastRunError).toContain('is gone')
    expect(existsSync(file('started'))).toBe(false)
  })

  test('is skipped by its slot, and by what it writes; that is recorded, and is no failure', async () => {
    const { dir, file, jobs, add, job } = workspace()
    await add({ name: 'job', task: 't', command: ['touch', 'started'], slot: { key: 's', cooldown: '1h' }, writes: [file('docs')] })
    const intent = await declareWrites({ task: 'other', writes: ['docs/a.md'], dir })
    const refused = jobs('run', 'job', '--json')
    expect(await json(refused, 75)).toMatchObject({ ran: false, name: 'job', status: 'skipped' })
    expect(job('job')).toMatchObject({ lastRunStatus: 'skipped', runCount: 0, consecutiveErrors: 0 })
    expect(job('job').lastRunError).toContain('task "other" is at it')
    await intent.release()
    const other = await gate('s', { owner: 'presence', dir })
    if (other.go) await other.complete('shipped')
    expect(await jobs('run', 'job').ended).toEqual({ code: 75, signal: null })
    expect(job('job').lastRunError).toContain('"presence" has done it')
    expect(existsSync(file('started'))).toBe(false)
  })

  test('declares what it writes while it runs; a second one of the same job is refused', async () => {
    const { dir, jobs, add, job, file } = workspace()
    await add({ name: 'job', task: 't', command: ['sh', '-c', 'echo runs; sleep 600'], writes: [file('docs')] })
    const one = jobs('run', 'job')
    expect(await one.line()).toBe('runs')
    expect(listIntents({ dir })).toMatchObject([{ task: 'job', writes: ['docs'], state: 'active' }])
    expect(job('job').running).toMatchObject({ dueAt: null, processes: [{}, {}, {}] })
    const two = jobs('run', 'job')
    expect(await two.ended).toEqual({ code: 75, signal: null })
    expect(two.err()).toContain('job is not run: it is running since')
    one.process.kill('SIGTERM')
    expect(await one.ended).toEqual({ code: 143, signal: null })
    expect(listIntents({ dir })).toEqual([])
    expect(job('job')).toMatchObject({ running: null, lastRunError: 'ended by SIGTERM' })
  })

  test('a pause, an edit and a delete, each during a run, survive its end', async () => {
    const { dir, jobs, add, setDue, job, file } = workspace()
    const runs: Child[] = []
    for (const name of ['paused', 'edited', 'deleted']) {
      const { id } = await add({ name, schedule: { kind: 'at', at: '2099-01-01T00:00:00Z' }, deleteAfterRun: true, task: 'old', command: ['sh', '-c', 'echo runs; while [ ! -e enough ]; do sleep 0.05; done'] })
      setDue(id)
      runs.push(jobs('run', name))
      expect(await runs.at(-1)!.line()).toBe('runs')
    }
    expect(await jobs('pause', 'paused').ended).toEqual(ok)
    expect(await jobs('update', 'edited', '--task', 'new', '--cron', '0 9 * * *').ended).toEqual(ok)
    expect(await jobs('delete', 'deleted').ended).toEqual(ok)
    const edited = job('edited')
    writeFileSync(file('enough'), '')
    for (const run of runs) expect(await run.ended, run.err()).toEqual(ok)
    expect(listJobs({ dir })).toMatchObject([
      { name: 'paused', status: 'paused', task: 'old', runCount: 1, nextRunAt: null, running: null },
      { name: 'edited', status: 'active', task: 'new', runCount: 1, schedule: { kind: 'cron', expr: '0 9 * * *' }, nextRunAt: edited.nextRunAt, running: null },
    ])
  })

  test('one whose wrapper was killed is recorded as an error by the next who looks, and not fired again for that time', async () => {
    const { dir, jobs, add, setDue, job } = workspace()
    const { id } = await add({ name: 'job', schedule: { kind: 'at', at: '2099-01-01T00:00:00Z' }, task: 't', command: ['sh', '-c', 'echo runs; echo >> log; sleep 600'] })
    setDue(id)
    const run = jobs('due', '--run')
    expect(await run.line()).toBe('runs')
    run.process.kill('SIGKILL')
    await run.ended
    await until(async () => {
      expect(await jobs('due', '--run', '-q').ended).toEqual(ok)
      return job('job').running === null
    })
    expect(job('job')).toMatchObject({ status: 'failed', runCount: 1, consecutiveErrors: 1, nextRunAt: null, lastRunError: 'the run did not say how it ended (dead)' })
    expect(readFileSync(join(dir, 'log'), 'utf8')).toBe('\n')
    expect(readEvents(dir).some(({ type, what }) => type === 'recovered' && what === `job:${id}`)).toBe(true)
  })

  test.each(['paused', 'disabled', 'completed'])('one that is %s is not run', async (state) => {
    const { jobs, add, setDue } = workspace()
    const { id } = await add({ name: 'job', schedule: { kind: 'at', at: '2099-01-01T00:00:00Z' }, task: 't', command: ['true'] })
    if (state === 'paused') await jobs('pause', 'job').ended
    if (state === 'disabled') await jobs('update', 'job', '--disable').ended
    if (state !== 'paused') setDue(id)
    if (state === 'completed') expect(await jobs('due', '--run').ended).toEqual(ok)
    const child = jobs('run', 'job')
    expect(await child.ended).toEqual({ code: 75, signal: null })
    expect(child.err()).toContain(`it ${state === 'completed' ? 'has' : 'is'} ${state === 'disabled' ? 'not enabled' : state}`)
  })
})

describe('due', () => {
  test('lists what is due; runs each once, and tells of failures', async () => {
    const { dir, jobs, add, setDue, job } = workspace()
    const good = await add({ name: 'good', task: 't', command: 'echo good >> log' })
    const bad = await add({ name: 'bad', schedule: { kind: 'every', every: '1h' }, task: 't', command: 'echo bad >> log; exit 1' })
    const later = await add({ name: 'later', task: 't', command: 'echo later >> log' })
    expect(await json(jobs('due', '--json'))).toEqual({ jobs: [], scope: [dir] })
    setDue(good.id, bad.id)
    expect(((await json(jobs('due', '--json')))['jobs'] as Job[]).map(({ name }) => name)).toEqual(['good', 'bad'])
    expect(await json(jobs('due', '--run', '--json'), 1)).toEqual({ fired: 2, ok: 1, error: 1, skipped: 0 })
    expect(readFileSync(join(dir, 'log'), 'utf8').trim().split('\n').sort()).toEqual(['bad', 'good'])
    expect(job('good').nextRunAt).toBe(good.nextRunAt)
    expect(job('later')).toEqual(later)
    // From the end of its run.
    expect(Date.parse(job('bad').nextRunAt!)).toBeGreaterThan(Date.now() + 3_500_000)
    expect(await json(jobs('due', '--run', '--json'))).toEqual({ fired: 0, ok: 0, error: 0, skipped: 0 })
  })

  test('each due time once, however many ask at once', async () => {
    const { dir, jobs, add, setDue } = workspace()
    const ids: string[] = []
    for (let n = 0; n < 12; n++) ids.push((await add({ name: `job ${n}`, task: 't', command: 'echo "$LOCKPACT_JOB" >> log; sleep 0.1' })).id)
    let fired = 0
    for (let round = 1; round <= 2; round++) {
      setDue(...ids)
      const callers = Array.from({ length: 6 }, () => jobs('due', '--run', '--json'))
      for (const caller of callers) fired += (await json(caller))['fired'] as number
      const log = readFileSync(join(dir, 'log'), 'utf8').trim().split('\n')
      expect(log.sort()).toEqual(ids.flatMap((id) => Array.from({ length: round }, () => id)).sort())
      for (const job of listJobs({ dir })) expect(job).toMatchObject({ runCount: round, consecutiveErrors: 0, running: null })
    }
    expect(fired).toBe(24)
    console.log('jobs: 6 callers, 24 due times, each once')
  })

  test('--every goes on until a signal, also beyond a damaged roster, which it tells of once', async () => {
    const { jobs, add, path, file } = workspace()
    await add({ name: 'job', schedule: { kind: 'every', every: '1s' }, task: 't', command: 'echo >> log' })
    const runs = () => (existsSync(file('log')) ? readFileSync(file('log'), 'utf8').length : 0)
    const daemon = jobs('due', '--run', '--every', '100ms')
    const idle = jobs('due', '--run', '--every', '1h')
    await until(() => runs() > 0)
    await until(() => showJobIdle(path))
    const sound = readFileSync(path, 'utf8')
    writeFileSync(path, sound.slice(0, -20))
    await until(() => daemon.err().includes('is damaged'))
    await sleep(500)
    expect(daemon.err().match(/is damaged/g)).toHaveLength(1)
    expect(readFileSync(path, 'utf8')).toBe(sound.slice(0, -20))
    writeFileSync(path, sound)
    const before = runs()
    await until(() => runs() > before)
    daemon.process.kill('SIGTERM')
    expect(await daemon.ended, daemon.err()).toEqual({ code: 143, signal: null })
    // It does not sleep to the end.
    idle.process.kill('SIGTERM')
    expect(await idle.ended).toEqual({ code: 143, signal: null })
  })

  const showJobIdle = (path: string) => readFileSync(path, 'utf8').includes('"running":null')

  test('under lead, across takeovers: no due time twice', async () => {
    const { dir, add, file } = workspace()
    for (let n = 0; n < 3; n++) await add({ name: `job ${n}`, schedule: { kind: 'every', every: '1s' }, task: 't', command: 'grep -o "\\"id\\":\\"$LOCKPACT_JOB\\".*" .lockpact/jobs.json | grep -o "\\"dueAt\\":[^}]*" | head -1 | sed "s/^/$LOCKPACT_JOB /" >> log' })
    const session = (name: string) => start([process.execPath, commandPath, 'lead', 'scheduler', '--owner', name, '--', process.execPath, commandPath, 'jobs', 'due', '--run', '--every', '100ms'], { cwd: dir, env: ENV })
    const sessions = [session('a'), session('b'), session('c')]
    const lines = () => (existsSync(file('log')) ? readFileSync(file('log'), 'utf8').trim().split('\n') : [])
    for (let round = 0; round < 3; round++) {
      const before = lines().length
      await until(() => lines().length > before + 3, 30_000)
      const leader = sessions.find((each) => existsSync(file('scheduler.lock')) && readFileSync(file('scheduler.lock'), 'utf8').includes(`"pid":${each.pid},`))
      leader?.process.kill('SIGKILL')
      if (leader) sessions[sessions.indexOf(leader)] = session(`d${round}`)
    }
    const before = lines().length
    await until(() => lines().length > before + 3, 30_000)
    for (const each of sessions) each.process.kill('SIGTERM')
    await Promise.all(sessions.map((each) => each.ended))
    const fired = lines()
    expect(fired.every((line) => /^job-\w+ "dueAt":"/.test(line))).toBe(true)
    expect(new Set(fired).size).toBe(fired.length)
    console.log(`jobs: 3 sessions under lead, 3 takeovers, ${fired.length} due times, none twice`)
  })
})

describe('templates/jobs.md', () => {
  const text = readFileSync(join(projectFolder, 'templates/jobs.md'), 'utf8')
  const lines = [...text.matchAll(/^```text\n([\s\S]*?)^```$/gm)].map((match) => match[1]!.trim().replace(/^(\S+ ){5}(?=cd )/, ''))

  test('its crontab line and its daemon run what is due', async () => {
    expect(lines).toHaveLength(2)
    const { dir, file, setDue, add } = workspace()
    const home = tempFolder()
    symlinkSync(dir, join(home, 'project'))
    mkdirSync(file('node_modules/.bin'), { recursive: true })
    writeFileSync(file('node_modules/.bin/lockpact'), `#!/bin/sh\nexec ${process.execPath} ${commandPath} "$@"\n`, { mode: 0o755 })
    cpSync(join(projectFolder, 'templates/memory'), file('memory'), { recursive: true })
    const { id } = await add({ name: 'heartbeat', taskSource: file('memory/heartbeat-prompt.md'), command: 'head -c 4 >> log', slot: { key: 'heartbeat' } })
    setDue(id)
    const cron = spawnSync('sh', ['-c', lines[0]!], { env: { ...process.env, HOME: home }, encoding: 'utf8' })
    expect(cron).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(readFileSync(file('log'), 'utf8')).toBe('This')
    appendFileSync(file('log'), '\n')
    setDue(id)
    const daemon = start(['sh', '-c', `exec ${lines[1]!.replace(/^cd .* && /, '')}`], { cwd: dir })
    await until(() => readFileSync(file('log'), 'utf8') === 'This\nThis')
    daemon.process.kill('SIGTERM')
    await daemon.ended
    expect(listSlots({ dir })).toMatchObject([{ key: 'heartbeat' }])
  })
})
