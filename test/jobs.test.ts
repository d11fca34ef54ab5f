/*
 * The roster: jobs that are updated in place, and what their runs leave behind.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createJob, deleteJob, type Job, type JobPatch, listJobs, overdueJobs, pauseJob, recordRun, resumeJob, showJob, updateJob } from 'lockpact/jobs'
import { initWorkspace, readEvents } from 'lockpact/work'
import { describe, expect, test } from 'vitest'
import { breakIn } from '../lib/jobs/damage.js'
import { projectFolder, sleep, startNode, tempFolder } from './support.js'

const HOURLY = { kind: 'cron', expr: '0 * * * *' } as const
const LONG_AGO = '2020-01-01T00:00:00.000Z'

function workspace() {
  const dir = tempFolder()
  initWorkspace(dir)
  const path = join(dir, '.lockpact/jobs.json')
  const text = () => readFileSync(path, 'utf8')
  /** Time goes on: what was due at this time is still to be run. */
  const setDue = (id: string, at = LONG_AGO) => writeFileSync(path, text().replace(new RegExp(`("id":"${id}".*"nextRunAt":)("[^"]*"|null)`), `$1"${at}"`))
  return { dir, path, text, setDue, file: (name: string) => join(dir, name) }
}

/** Everything that an update must not touch, as it is written. */
function historyOf({ id, createdAt, createdBy, lastRunAt, lastRunStatus, lastRunDurationMs, lastRunError, lastTaskSha256, runCount, consecutiveErrors, running }: Job): string {
  return JSON.stringify({ id, createdAt, createdBy, lastRunAt, lastRunStatus, lastRunDurationMs, lastRunError, lastTaskSha256, runCount, consecutiveErrors, running })
}

const refused = (message: string, code = 'EINVAL') => expect.objectContaining({ name: 'LockError', code, message: expect.stringContaining(message) as string }) as Error

describe('in place', () => {
  test('a job is created, shown by id and by name without case, and listed', async () => {
    const { dir, file } = workspace()
    mkdirSync(file('memory'))
    writeFileSync(file('memory/prompt.md'), 'Reply.')
    const job = await createJob({ name: 'Heartbeat', schedule: HOURLY, taskSource: 'memory/prompt.md', writes: ['memory/queue.md'] }, { dir, owner: 'me' })
    expect(job).toMatchObject({ rev: 1, enabled: true, createdBy: 'me', status: 'active', runCount: 0, taskSource: 'memory/prompt.md', writes: ['memory/queue.md'], lastRunAt: null })
    expect(job.nextRunAt).toMatch(/:00:00\.000Z$/)
    expect(showJob('heartbeat', { dir })).toEqual(job)
    expect(showJob(job.id, { dir })).toEqual(job)
    expect(listJobs({ dir })).toEqual([job])
    await expect(createJob({ name: 'HEARTBEAT', schedule: HOURLY, task: 'x' }, { dir })).rejects.toEqual(refused(`there is a job "Heartbeat" already (${job.id})`))
    expect(() => showJob('other', { dir })).toThrow(refused('there is no job "other"; there are "Heartbeat"'))
  })

  const patches: JobPatch[] = [
    { name: 'renamed' },
    { description: 'what it is for' },
    { description: null },
    { enabled: false },
    { schedule: { kind: 'cron', expr: '30 9 * * mon', tz: 'Europe/Berlin' } },
    { schedule: { kind: 'every', every: '20m' } },
    { schedule: { kind: 'at', at: '2099-01-01T00:00:00Z' } },
    { task: 'another prompt' },
    { taskSource: 'prompt.md' },
    { command: ['cat'] },
    { command: 'cat | wc -c' },
    { delivery: { channel: 'slack', target: '#ops' } },
    { writes: ['docs', 'memory/queue.md'] },
    { writes: ['docs'], policy: 'queue' },
    { slot: { key: 'heartbeat', cooldown: '15m' } },
    { timeout: '30m' },
    { schedule: { kind: 'at', at: '2099-01-01T00:00:00Z' }, deleteAfterRun: true },
  ]
  test.each(patches)('%j on a job with history: that stays, byte for byte', async (patch) => {
    const { dir, text, file } = workspace()
    writeFileSync(file('prompt.md'), 'Do.')
    const other = await createJob({ name: 'other', schedule: HOURLY, task: 'y' }, { dir })
    await createJob({ name: 'job', description: 'old', schedule: HOURLY, task: 'x' }, { dir, owner: 'me' })
    await recordRun('job', { status: 'ok', startedAt: '2026-01-02T03:04:05.678Z', durationMs: 1234.5 }, { dir })
    await recordRun('job', { status: 'error', startedAt: '2026-01-03T03:04:05.678Z', durationMs: 17, error: 'exit status 3', taskSha256: 'ab'.repeat(32) }, { dir })
    const before = showJob('job', { dir })
    expect(before).toMatchObject({ runCount: 2, consecutiveErrors: 1, lastRunError: 'exit status 3', rev: 1 })
    const { job, changed } = await updateJob(before.id, patch, { dir })
    expect(historyOf(job)).toBe(historyOf(before))
    const written = (run: string) => /"lastRunAt".*"running":null/.exec(run)![0]
    expect(text()).toContain(written(JSON.stringify(before)))
    expect(job).toEqual(showJob(before.id, { dir }))
    expect(job.rev).toBe(2)
    expect(Object.keys(changed)).toEqual(expect.arrayContaining(Object.keys(patch)))
    for (const [field, { before: old, after }] of Object.entries(changed)) {
      expect(old).toEqual(before[field as keyof Job] ?? null)
      expect(after).toEqual(job[field as keyof Job] ?? null)
    }
    if (patch.schedule) expect(job.nextRunAt).not.toBe(before.nextRunAt)
    else expect(job.nextRunAt).toBe(before.nextRunAt)
    expect(text()).toContain(JSON.stringify(other))
    // Its history can be read.
    expect(readEvents(dir).findLast(({ why }) => why === 'updated')).toMatchObject({ type: 'job', what: `job:${job.id}`, changed })
  })

  test('a prompt takes the place of a file, and the other way round; both at once are refused', async () => {
    const { dir, file } = workspace()
    writeFileSync(file('prompt.md'), 'Do.')
    await createJob({ name: 'job', schedule: HOURLY, task: 'a copy' }, { dir })
    const { job, changed } = await updateJob('job', { taskSource: 'prompt.md' }, { dir })
    expect(job).not.toHaveProperty('task')
    expect(changed).toEqual({ task: { before: 'a copy', after: null }, taskSource: { before: null, after: 'prompt.md' } })
    expect((await updateJob('job', { task: 'text' }, { dir })).job).not.toHaveProperty('taskSource')
    await expect(updateJob('job', { task: 'a', taskSource: 'prompt.md' }, { dir })).rejects.toEqual(refused('not both'))
  })

  test('the next run is computed anew only with a new schedule, and not while it is paused', async () => {
    const { dir, setDue } = workspace()
    const { id } = await createJob({ name: 'job', schedule: HOURLY, task: 'x' }, { dir })
    setDue(id)
    expect((await updateJob('job', { task: 'y' }, { dir })).job.nextRunAt).toBe(LONG_AGO)
    expect((await updateJob('job', { schedule: { kind: 'cron', expr: '5 * * * *' } }, { dir })).job.nextRunAt).toMatch(/:05:00/)
    const paused = await pauseJob('job', { dir })
    expect(paused).toMatchObject({ status: 'paused', nextRunAt: null })
    expect((await updateJob('job', { schedule: { kind: 'every', every: '1h' } }, { dir })).job).toMatchObject({ status: 'paused', nextRunAt: null })
    expect(await pauseJob('job', { dir })).toEqual(showJob('job', { dir }))
    const resumed = await resumeJob('job', { dir })
    expect(resumed.status).toBe('active')
    expect(Date.parse(resumed.nextRunAt!)).toBeGreaterThan(Date.now() + 3_500_000)
  })

  test('deleteAfterRun goes when the job becomes recurring', async () => {
    const { dir } = workspace()
    await createJob({ name: 'job', schedule: { kind: 'at', at: '2099-01-01T00:00:00+01:00' }, deleteAfterRun: true, task: 'x' }, { dir })
    expect(showJob('job', { dir }).schedule).toEqual({ kind: 'at', at: '2098-12-31T23:00:00.000Z' })
    const { job, changed } = await updateJob('job', { schedule: HOURLY }, { dir })
    expect(job).not.toHaveProperty('deleteAfterRun')
    expect(changed.deleteAfterRun).toEqual({ before: true, after: null })
    await expect(updateJob('job', { deleteAfterRun: true }, { dir })).rejects.toEqual(refused('deleteAfterRun is for a job that runs once'))
  })

  test('what says what is so already changes nothing', async () => {
    const { dir, text } = workspace()
    await createJob({ name: 'job', schedule: HOURLY, task: 'x' }, { dir })
    const before = text()
    expect((await updateJob('job', { task: 'x', schedule: HOURLY, description: null }, { dir })).changed).toEqual({})
    expect(text()).toBe(before)
  })

  test('ifRev refuses an edit of what has changed since it was read, but a run is no such change', async () => {
    const { dir } = workspace()
    const { rev } = await createJob({ name: 'job', schedule: HOURLY, task: 'x' }, { dir })
    await recordRun('job', { status: 'ok', startedAt: Date.now(), durationMs: 1 }, { dir })
    await updateJob('job', { task: 'y' }, { dir, ifRev: rev })
    await expect(updateJob('job', { task: 'z' }, { dir, ifRev: rev })).rejects.toEqual(refused('has been changed since you read it: its rev is 2, not 1', 'ESTALE'))
    expect(showJob('job', { dir }).task).toBe('y')
  })
})

describe('runs', () => {
  const run = { status: 'ok', startedAt: '2026-01-01T00:00:00Z', durationMs: 60_000 } as const

  test('a pause, an edit and a delete, each during a run, survive its end', async () => {
    const { dir, setDue } = workspace()
    for (const name of ['paused', 'edited', 'deleted', 'retimed']) setDue((await createJob({ name, schedule: { kind: 'at', at: '2099-01-01T00:00:00Z' }, deleteAfterRun: true, task: 'old' }, { dir })).id)
    const startedAt = Date.now()
    await pauseJob('paused', { dir })
    await updateJob('edited', { task: 'new', schedule: HOURLY }, { dir })
    await deleteJob('deleted', { dir })
    await updateJob('retimed', { schedule: { kind: 'at', at: '2098-01-01T00:00:00Z' } }, { dir })
    for (const name of ['paused', 'edited', 'retimed']) expect(await recordRun(name, { ...run, startedAt }, { dir })).toMatchObject({ runCount: 1, lastRunStatus: 'ok' })
    expect(await recordRun('deleted', { ...run, startedAt }, { dir })).toBe(undefined)
    expect(listJobs({ dir })).toMatchObject([
      { name: 'paused', status: 'paused', nextRunAt: null, task: 'old' },
      { name: 'edited', status: 'active', task: 'new', schedule: HOURLY },
      { name: 'retimed', status: 'active', nextRunAt: '2098-01-01T00:00:00.000Z' },
    ])
    expect(Date.parse(showJob('edited', { dir }).nextRunAt!)).toBeGreaterThan(startedAt)
  })

  test('what runs once is completed, failed, or deleted; and not revived by an edit', async () => {
    const { dir, setDue } = workspace()
    const schedule = { kind: 'at', at: '2099-01-01T00:00:00Z' } as const
    for (const name of ['well', 'badly', 'briefly']) setDue((await createJob({ name, schedule, task: 'x', ...(name === 'briefly' && { deleteAfterRun: true }) }, { dir })).id)
    await recordRun('well', run, { dir })
    await recordRun('badly', { ...run, status: 'error', error: 'exit status 1' }, { dir })
    expect(await recordRun('briefly', run, { dir })).toBe(undefined)
    expect(listJobs({ dir })).toMatchObject([{ name: 'well', status: 'completed', nextRunAt: null }, { name: 'badly', status: 'failed', nextRunAt: null }])
    expect((await updateJob('well', { schedule: HOURLY }, { dir })).job).toMatchObject({ status: 'completed', nextRunAt: null })
    await expect(pauseJob('well', { dir })).rejects.toEqual(refused('"well" has completed'))
    expect(await resumeJob('well', { dir })).toMatchObject({ status: 'active', runCount: 1 })
    setDue(showJob('badly', { dir }).id)
    expect(overdueJobs({ dir })).toEqual([])
  })

  test('what was paused beyond its time needs a new one', async () => {
    const { dir, text, path } = workspace()
    await createJob({ name: 'job', schedule: { kind: 'at', at: '2099-01-01T00:00:00Z' }, task: 'x' }, { dir })
    await pauseJob('job', { dir })
    writeFileSync(path, text().replace('2099-01-01', '2020-01-01'))
    await expect(resumeJob('job', { dir })).rejects.toEqual(refused('the time of "job" has passed; give it a new schedule first'))
  })

  test('every: from the end of the last run; cron: the next in its calendar', async () => {
    const { dir, setDue } = workspace()
    const { id } = await createJob({ name: 'every', schedule: { kind: 'every', every: '1h' }, task: 'x' }, { dir })
    setDue(id)
    const end = Date.now()
    expect((await recordRun(id, { ...run, startedAt: end - 60_000 }, { dir }))?.nextRunAt).toBe(new Date(end + 3_600_000).toISOString())
    const cron = await createJob({ name: 'cron', schedule: HOURLY, task: 'x' }, { dir })
    // A run by hand uses up no time.
    expect((await recordRun('cron', { ...run, startedAt: Date.now() }, { dir }))?.nextRunAt).toBe(cron.nextRunAt)
    setDue(cron.id)
    expect(overdueJobs({ dir }).map(({ name }) => name)).toEqual(['cron'])
    // Missed for years, it catches up once.
    expect((await recordRun('cron', { ...run, startedAt: Date.now() }, { dir }))?.nextRunAt).toBe(cron.nextRunAt)
    expect(overdueJobs({ dir })).toEqual([])
    await updateJob('cron', { enabled: false }, { dir })
    setDue(cron.id)
    expect(overdueJobs({ dir })).toEqual([])
  })

  test('counts', async () => {
    const { dir } = workspace()
    await createJob({ name: 'job', schedule: HOURLY, task: 'x' }, { dir })
    const after = async (status: 'ok' | 'error' | 'skipped') => {
      const job = await recordRun('job', { ...run, status, ...(status !== 'ok' && { error: 'why' }) }, { dir })
      return [job?.runCount, job?.consecutiveErrors, job?.lastRunError]
    }
    expect(await after('error')).toEqual([1, 1, 'why'])
    expect(await after('error')).toEqual([2, 2, 'why'])
    expect(await after('skipped')).toEqual([2, 2, 'why'])
    expect(await after('ok')).toEqual([3, 0, null])
  })
})

describe('bad input', () => {
  const good = { name: 'job', schedule: HOURLY, task: 'x' }
  test.each([
    [{ ...good, name: '' }, 'name must have 1 to 200 characters, not 0'],
    [{ ...good, name: 'x'.repeat(201) }, 'name must have 1 to 200 characters, not 201'],
    [{ ...good, name: ' job' }, 'name must not begin or end with a space'],
    [{ ...good, name: 'a\nb' }, 'name must be a single line'],
    [{ ...good, name: 'job-0123456789' }, 'name must not look like an id'],
    [{ ...good, schedule: { kind: 'cron', expr: '61 * * * *' } }, '"61" is no minute'],
    [{ ...good, schedule: { kind: 'cron', expr: '0 0 31 2 *' } }, 'is never due'],
    [{ ...good, schedule: { kind: 'cron', expr: '0 0 * * *', tz: 'Mars/Phobos' } }, 'there is no time zone "Mars/Phobos"'],
    [{ ...good, schedule: { kind: 'at', at: '2020-01-01T00:00:00Z' } }, '"2020-01-01T00:00:00Z" has passed; give a time after'],
    [{ ...good, schedule: { kind: 'weekly' } }, 'schedule must be { kind:'],
    [{ ...good, schedule: { ...HOURLY, zone: 'UTC' } }, 'with "zone"'],
    [{ ...good, schedule: undefined }, 'a job needs a schedule'],
    [{ ...good, task: 'x'.repeat(1_000_000) }, 'task has 1000000 bytes, there is room for 32768; write it to a file'],
    [{ ...good, task: 'ü'.repeat(16_385) }, 'task has 32770 bytes'],
    [{ ...good, task: undefined }, 'a job needs something to do'],
    [{ ...good, taskSource: 'prompt.md' }, 'there is no'],
    [{ ...good, writes: ['../elsewhere'] }, 'outside of the workspace'],
    [{ ...good, writes: [] }, 'writes must be a list of 1 to 1000'],
    [{ ...good, policy: 'warn' }, 'policy is about writes'],
    [{ ...good, writes: ['a'], policy: 'shout' }, 'policy must be refuse, queue or warn'],
    [{ ...good, slot: { key: '' } }, 'the key of a slot must have'],
    [{ ...good, slot: { key: 's', every: '0s' } }, 'every must be longer than 0'],
    [{ ...good, timeout: '30' }, 'timeout must be milliseconds or a text'],
    [{ ...good, command: [] }, 'command must be'],
    [{ ...good, delivery: { channel: 'slack' } }, 'delivery.target must be a text'],
    [{ ...good, deleteAfterRun: true }, 'deleteAfterRun is for a job that runs once'],
    [{ ...good, runCount: 3 }, '"runCount" is not for an author to say'],
    [{ ...good, colour: 'red' }, '"colour" is not for an author to say'],
    ['job', 'a job must be an object'],
  ])('%j', async (job, message) => {
    const { dir } = workspace()
    await expect(createJob(job as never, { dir })).rejects.toEqual(refused(message))
    expect(listJobs({ dir })).toEqual([])
    if (typeof job !== 'object' || job.name !== 'job' || !job.schedule || job.task === undefined) return
    // An update takes nothing that create would not.
    await createJob(good, { dir })
    const { name, task, ...rest } = job as Record<string, unknown>
    await expect(updateJob('job', (task === 'x' ? rest : { task }) as never, { dir }), message).rejects.toEqual(refused(rest['taskSource'] ? 'there is no' : message))
    expect(showJob('job', { dir }).rev).toBe(1)
  })

  test.each([
    [{}, 'the patch is empty; it may have name,'],
    [{ task: undefined }, 'the patch is empty'],
    [{ name: null }, 'a job cannot be without name'],
    [{ task: null }, 'a job needs something to do'],
    [{ id: 'job-0123456789' }, '"id" is not for an author to say'],
    [{ nextRunAt: '2026-01-01T00:00:00Z' }, '"nextRunAt" is not for an author to say'],
    [{ status: 'active' }, '"status" is not for an author to say'],
    [{ __proto__: { name: 'x' } }, 'the patch is empty'],
    [[], 'a patch must be an object'],
  ])('the patch %j', async (patch, message) => {
    const { dir, text } = workspace()
    await createJob(good, { dir })
    const before = text()
    await expect(updateJob('job', patch as never, { dir })).rejects.toEqual(refused(message))
    expect(text()).toBe(before)
  })

  test.each([
    [{ status: 'good' }, 'status must be ok, error or skipped'],
    [{ status: 'ok', startedAt: 'now', durationMs: 1 }, 'startedAt must be an ISO time'],
    [{ status: 'ok', startedAt: 0, durationMs: -1 }, 'durationMs must be milliseconds'],
  ])('the run %j', async (run, message) => {
    const { dir } = workspace()
    await createJob(good, { dir })
    await expect(recordRun('job', run as never, { dir })).rejects.toEqual(refused(message))
  })
})

describe('a damaged roster is never overwritten, and says where it breaks', () => {
  const jobs = async () => {
    const it = workspace()
    for (const name of ['one', 'two', 'three']) await createJob({ name, schedule: HOURLY, task: 'Say "hello".\n' }, { dir: it.dir })
    return it
  }
  const damages: [string, (text: string) => string, RegExp][] = [
    ['empty', () => '', /it is empty \(line 1, column 1\)/],
    ['truncated', (text) => text.slice(0, text.indexOf('"two"') + 30), /it ends in the middle \(line 3, column \d+\)/],
    ['without its end', (text) => text.slice(0, -3), /it ends in the middle \(line 5, column 1\)/],
    ['a comma too many', (text) => text.replace('"name":"two",', '"name":"two",,'), /is out of place \(line 3, column \d+\)/],
    ['a quote missing', (text) => text.replace('"three"', '"three'), /is out of place \(line 4, column \d+\)/],
    ['no comma between two fields', (text) => text.replace('"name":"one",', '"name":"one"'), /is out of place \(line 2, column \d+\)/],
    ['a wrong cron expression', (text) => text.replace(/("name":"two".*?)0 \* \* \* \*/, '$161 * * * *'), /entry 2 of jobs \("two", line 3, column 1\): "61" is no minute/],
    ['a wrong counter', (text) => text.replace(/("name":"three".*?)"runCount":0/, '$1"runCount":"none"'), /entry 3 of jobs \("three", line 4, column 1\): runCount cannot be "none"/],
    ['no list', () => '{"v":1,"rev":7}', /it must be \{"v":1,"rev":…,"jobs":\[…\]\}/],
    ['another document', () => '[]\n', /it must be/],
    ['binary', (text) => `${text.slice(0, -4)}\uFFFF\0`, /out of place|ends in the middle/],
  ]
  test.each(damages)('%s', async (_, damage, message) => {
    const { dir, path, text } = await jobs()
    const broken = damage(text())
    writeFileSync(path, broken)
    const calls = [
      () => createJob({ name: 'four', schedule: HOURLY, task: 'x' }, { dir }),
      () => updateJob('one', { task: 'y' }, { dir }),
      () => pauseJob('one', { dir }),
      () => deleteJob('one', { dir }),
      () => recordRun('one', { status: 'ok', startedAt: 0, durationMs: 1 }, { dir }),
      async () => listJobs({ dir }),
      async () => overdueJobs({ dir }),
    ]
    for (const call of calls) {
      const error = await call().then(() => undefined, (error: Error & { file?: string }) => error)
      expect(error?.message).toMatch(message)
      expect(error?.message).toContain('was left as it is')
      expect(error?.file).toBe(path)
    }
    expect(text()).toBe(broken)
    expect(readdirSync(join(dir, '.lockpact')).filter((name) => name.startsWith('jobs'))).toEqual(['jobs.json'])
  })

  test('one that a person has formatted is none', async () => {
    const { dir, path, text } = await jobs()
    writeFileSync(path, JSON.stringify(JSON.parse(text()), null, 2))
    expect((await updateJob('two', { task: 'y' }, { dir })).job.task).toBe('y')
    expect(listJobs({ dir })).toHaveLength(3)
  })

  test('cut or changed anywhere, the place is found where JSON.parse fails, and nowhere else', async () => {
    const { text } = await jobs()
    const sound = text()
    let broken = 0
    for (let at = 0; at < sound.length; at += 3) {
      for (const damaged of [sound.slice(0, at), `${sound.slice(0, at)}}${sound.slice(at + 1)}`, `${sound.slice(0, at)}"${sound.slice(at)}`, `${sound.slice(0, at)}${sound.slice(at + 1)}`]) {
        let isBroken = false
        try {
          JSON.parse(damaged)
        } catch {
          isBroken = true
          broken++
        }
        expect(breakIn(damaged) !== undefined, damaged).toBe(isBroken)
      }
    }
    console.log(`jobs: ${broken} damaged texts located`)
  })
})

test('8 processes update and record runs of one roster, and are killed: nothing is lost, it always parses', { timeout: 180_000 }, async () => {
  const { dir, path } = workspace()
  const jobsUrl = pathToFileURL(join(projectFolder, 'dist/jobs.js')).href
  const names = ['a', 'b', 'c', 'd']
  for (const name of names) await createJob({ name, schedule: HOURLY, task: 'x' }, { dir })
  const journal = join(dir, 'journal')
  writeFileSync(journal, '')
  // Each says what it is going to do, does it, and says that it is done.
  const body = `
    import { appendFileSync } from 'node:fs'
    const { updateJob, recordRun } = await import(${JSON.stringify(jobsUrl)})
    const told = (line) => appendFileSync(${JSON.stringify(journal)}, JSON.stringify({ pid: process.pid, ...line }) + '\\n')
    const names = ${JSON.stringify(names)}
    for (let n = 0; ; n++) {
      const name = names[Math.floor(Math.random() * names.length)]
      const options = { dir: ${JSON.stringify(dir)} }
      try {
        if (Math.random() < 0.5) { told({ run: name, n }); await recordRun(name, { status: 'ok', startedAt: Date.now(), durationMs: 1 }, options); told({ run: name, n, done: true }) }
        else { told({ update: name, n }); await updateJob(name, { description: process.pid + ' ' + n }, options); told({ update: name, n, done: true }) }
      } catch (error) { if (!['ELOCKED', 'ECOMPROMISED', 'ESTALE'].includes(error.code)) { told({ failed: String(error) }); throw error } }
    }`
  const begin = () => startNode(body)
  const children = Array.from({ length: 8 }, begin)
  let kills = 0
  let looks = 0
  // The first is spared: who dies between creating a lock and writing it leaves an empty one, which somebody has to watch for five seconds.
  for (const end = Date.now() + 12_000; Date.now() < end || readFileSync(journal, 'utf8').split('"done":true').length < 100; ) {
    await sleep(60)
    expect(listJobs({ dir })).toHaveLength(4)
    looks++
    if (Math.random() < 0.4) {
      const index = 1 + Math.floor(Math.random() * 7)
      children[index]!.process.kill('SIGKILL')
      children[index] = begin()
      kills++
    }
  }
  for (const child of children) child.process.kill('SIGKILL')
  await Promise.all(children.map((child) => child.ended))
  const lines = readFileSync(journal, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as { pid: number; n: number; run?: string; update?: string; done?: true; failed?: string })
  expect(lines.filter(({ failed }) => failed)).toEqual([])
  let [recorded, updated] = [0, 0]
  for (const name of names) {
    const job = showJob(name, { dir })
    const done = lines.filter((line) => line.run === name && line.done).length
    const told = lines.filter((line) => line.run === name && !line.done).length
    // Killed between the change and the word, it is done all the same.
    expect(job.runCount).toBeGreaterThanOrEqual(done)
    expect(job.runCount).toBeLessThanOrEqual(told)
    const updates = lines.filter((line) => line.update === name && line.done).length
    expect(job.rev - 1).toBeGreaterThanOrEqual(updates)
    expect(lines.some((line) => line.update === name && `${line.pid} ${line.n}` === job.description) || updates === 0).toBe(true)
    recorded += done
    updated += updates
  }
  expect(recorded).toBeGreaterThan(10)
  expect(() => JSON.parse(readFileSync(path, 'utf8')) as unknown).not.toThrow()
  rmSync(journal)
  console.log(`jobs: 8 processes, ${kills} killed, ${recorded} runs and ${updated} updates, none lost, ${looks} looks`)
})
