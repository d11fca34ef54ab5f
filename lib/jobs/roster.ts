import { checkLabels, crypto, fs, idOf, isAbsolute, join, LockError, machineError, relative, resolve, sep, show, systemCode } from '../core/index.js'
import { textOf } from '../files/index.js'
import { beginLease, changeDocument, extendLease, findWorkspace, FOLDER, type Kind, logEvent, overBy, pathIn, readDocument, readEvents, sessionOf, type WorkEvent } from '../work/index.js'
import { damageOf } from './damage.js'
import { begun, type Changes, changesBetween, checkRun, ended, faultOf, isDue, type Job, type JobPatch, type NewJob, newJob, patched, paused, resumed, type Run } from './job.js'

/** Where, and who says so. */
export interface JobOptions {
  /** The workspace. Default: the nearest above the working folder. Relative paths in a job are relative to it where it is given, else to the working folder. */
  dir?: string | undefined
  /** A label for people, in the record and its events. Default: the session. */
  owner?: string | undefined
}

/** What {@link updateJob} did. */
export interface UpdatedJob {
  job: Job
  /** By field, before and after; empty when all was so already. */
  changed: Changes
}

const JOBS: Kind<Job> = {
  name: 'jobs',
  isEntry: (value) => faultOf(value) === undefined,
  damaged: (path, bytes) => {
    const words = `${path} is damaged: ${damageOf(bytes, 'jobs', faultOf)}. It was left as it is; mend it there (${join(FOLDER, 'events.jsonl')} has the last changes of each job)`
    return new LockError('EINVAL', words, { file: path })
  },
}

/**
 * Adds a job. Rejects with `EINVAL`: what is wrong with it, or, with `file`, where the roster is damaged; or with the system's code.
 *
 * @example
 * await createJob({ name: 'heartbeat', schedule: { kind: 'cron', expr: '0 * * * *' }, taskSource: 'memory/heartbeat-prompt.md', command: ['claude', '-p'] })
 */
export async function createJob(job: NewJob, options: JobOptions = {}): Promise<Job> {
  const { root, by, place } = told(options)
  const id = `job-${crypto().randomBytes(5).toString('hex')}`
  const created = newJob(job, place, by, id, Date.now())
  await changeDocument(root, JOBS, (jobs) => {
    checkUnique(jobs, created)
    return [...jobs, created]
  })
  tell(root, created, { by, why: 'created', changed: changesBetween({}, created) })
  return created
}

/**
 * Changes a job in place: its id, its counters and its history stay. What the patch does not name stays, null takes a field away. The
 * next run is computed anew only when the schedule has changed, and not while it is paused; a job that has completed or failed stays so
 * (see {@link resumeJob}). With `ifRev`, only when that is still its `rev` (else `ESTALE`). Rejects as {@link createJob}.
 *
 * @example
 * const { changed } = await updateJob('heartbeat', { schedule: { kind: 'every', every: '30m' } })
 */
export async function updateJob(idOrName: string, patch: JobPatch, options: JobOptions & { ifRev?: number | undefined } = {}): Promise<UpdatedJob> {
  const { root, by, place } = told(options)
  const { ifRev } = options
  let changed: Changes = {}
  const job = await change(root, idOrName, (before, jobs) => {
    if (ifRev !== undefined && ifRev !== before.rev)
      throw new LockError('ESTALE', `${show(before.name)} has been changed since you read it: its rev is ${before.rev}, not ${show(ifRev)}; look again (lockpact jobs show ${before.id})`)
    const result = patched(before, patch, place, Date.now())
    changed = result.changed
    if (changed.name) checkUnique(jobs, result.job)
    return result.job
  })
  if (Object.keys(changed).length > 0) tell(root, job!, { by, why: 'updated', changed })
  return { job: job!, changed }
}

/** A job by its id, or by its name without case. Throws `EINVAL` when there is none, and as {@link createJob}. */
export function showJob(idOrName: string, options: JobOptions = {}): Job {
  return found(listJobs(options), idOrName)
}

/** All jobs, the oldest first. Throws `EINVAL` (a damaged roster is never an empty one), or the system's code. */
export function listJobs(options: JobOptions = {}): Job[] {
  return readDocument(findWorkspace(options.dir), JOBS)
}

/** Not due any more, until it is resumed; a run that is going on ends as it would. Rejects as {@link updateJob}. */
export function pauseJob(idOrName: string, options: JobOptions = {}): Promise<Job> {
  return turn(idOrName, options, 'paused', paused)
}

/**
 * Due again, from now on; what would have been due meanwhile is left out. A job that has completed or failed is active again, when its
 * schedule has a time to come. Rejects as {@link updateJob}.
 */
export function resumeJob(idOrName: string, options: JobOptions = {}): Promise<Job> {
  return turn(idOrName, options, 'resumed', resumed)
}

async function turn(idOrName: string, options: JobOptions, why: string, decide: (job: Job, now: number) => Job): Promise<Job> {
  const { root, by } = told(options)
  let isChanged = false
  const job = await change(root, idOrName, (before) => {
    const after = decide(before, Date.now())
    isChanged = after !== before
    return after
  })
  if (isChanged) tell(root, job!, { by, why })
  return job!
}

/** Takes a job out of the roster; gives it as it was. A run that is going on ends as it would. Rejects as {@link updateJob}. */
export async function deleteJob(idOrName: string, options: JobOptions = {}): Promise<Job> {
  const { root, by } = told(options)
  let job: Job | undefined
  await change(root, idOrName, (before) => {
    job = before
    return undefined
  })
  tell(root, job!, { by, why: 'deleted', changed: changesBetween(job!, {}) })
  return job!
}

/** The jobs that are to be run now: their time has come, and their last run is over. Throws as {@link listJobs}. */
export function overdueJobs(options: JobOptions = {}): Job[] {
  const now = Date.now()
  return listJobs(options).filter((job) => isDue(job, now) && !isRunning(job))
}

/**
 * Records a run that has ended; gives the job, or undefined when it is not in the roster (any more): a run brings nothing back. Sets the
 * fields of the last run, the counters, and when it is due next; touches nothing that an author says. Rejects with `EINVAL`, or the
 * system's code.
 *
 * @example
 * await recordRun('heartbeat', { status: 'ok', startedAt: new Date().toISOString(), durationMs: 1500 })
 */
export function recordRun(idOrName: string, run: Run, options: JobOptions = {}): Promise<Job | undefined> {
  return record(idOrName, run, undefined, options)
}

// ---- a run, from its beginning to its end ----

/** A run that has begun. */
export interface Begun {
  job: Job
  /** Renews and ends it. */
  token: string
}

/** Why a job is not to be run. */
export interface NotBegun {
  job: Job
  why: string
}

export interface Runner extends JobOptions {
  ttlMs: number
  pid: number
  /** Ids of jobs that are left out. */
  except?: Set<string>
}

/**
 * Begins the next run that is due, and uses up its due time in the same step: however many ask, each due time is given to one of them.
 * Undefined: nothing is due. Runs that have ended without a word are recorded as errors.
 */
export async function beginDue(runner: Runner): Promise<Begun | undefined> {
  const { root } = told(runner)
  const { except } = runner
  // Asked every few seconds; nobody has to wait for that.
  if (!readDocument(root, JOBS).some((job) => (job.running ? overBy(job.running) : isDue(job, Date.now()) && !except?.has(job.id)))) return undefined
  const result = await begin(root, runner, (jobs, now) => jobs.find((job) => isDue(job, now) && job.running === null && !except?.has(job.id)))
  return result && 'token' in result ? result : undefined
}

/** Begins a run by hand. One that is paused, disabled, at an end or going on is not run. */
export async function beginRun(idOrName: string, runner: Runner): Promise<Begun | NotBegun> {
  return (await begin(told(runner).root, runner, (jobs) => found(jobs, idOrName)))!
}

async function begin(root: string, { owner, ttlMs, pid }: Runner, pick: (jobs: Job[], now: number) => Job | undefined): Promise<Begun | NotBegun | undefined> {
  const { token, lease } = beginLease({ owner, ttlMs, pid })
  let lost: Job[] = []
  let result: Begun | NotBegun | undefined
  await changeDocument(root, JOBS, (before) => {
    const now = Date.now()
    lost = before.filter(({ running }) => running && overBy(running))
    const jobs = before.flatMap((job) => (lost.includes(job) ? (lostRun(job, now) ?? []) : job))
    const job = pick(jobs, now)
    const why = job && whyNot(job)
    if (job === undefined || why !== undefined) {
      result = job && { job, why: why! }
      return lost.length > 0 ? jobs : undefined
    }
    result = { job: begun(job, lease, now), token }
    return jobs.with(jobs.indexOf(job), result.job)
  })
  for (const job of lost) tell(root, job, { type: 'recovered', by: owner ?? null, against: job.running!.by, why: overBy(job.running!) ?? null })
  return result
}

function whyNot({ status, enabled, running }: Job): string | undefined {
  if (running) return `it is running since ${running.since}`
  if (status !== 'active') return status === 'paused' ? 'it is paused' : `it has ${status}`
  return enabled ? undefined : 'it is not enabled'
}

function lostRun(job: Job, now: number): Job | undefined {
  const since = Date.parse(job.running!.since)
  const error = `the run did not say how it ended (${overBy(job.running!)})`
  return ended({ ...job, running: null }, { status: 'error', startedAt: since, durationMs: Math.max(0, now - since), error }, now)
}

const isRunning = ({ running }: Job) => running !== null && overBy(running) === undefined

/**
 * The lease of a run from now; `pid`: bound to one more process. A job that was deleted has nothing to renew, its run goes on. Rejects
 * with `ENOTACQUIRED` when the run was given up: its time was over.
 */
export async function extendRun(id: string, token: string, options: JobOptions & { pid?: number | undefined }): Promise<void> {
  const { root } = told(options)
  await changeDocument(root, JOBS, (jobs) => {
    const job = jobs.find((each) => each.id === id)
    if (!job) return undefined
    return jobs.with(jobs.indexOf(job), { ...job, running: extendLease(runOf(job, token), ...(options.pid === undefined ? [] : [options.pid])) })
  })
}

function runOf({ name, running }: Job, token: string): NonNullable<Job['running']> {
  if (running?.id === idOf(token)) return running
  throw new LockError('ENOTACQUIRED', `this run of ${show(name)} was given up: its time was over, or its process dead`)
}

/** The same as {@link recordRun}, for a run that was begun here. Rejects with `ENOTACQUIRED` when it was given up, and recorded as lost. */
export async function record(idOrName: string, run: Run, token: string | undefined, options: JobOptions): Promise<Job | undefined> {
  const { root, by } = told(options)
  const checked = checkRun(run)
  let before: Job | undefined
  let after: Job | undefined
  await changeDocument(root, JOBS, (jobs) => {
    before = find(jobs, idOrName)
    if (!before) return undefined
    if (token !== undefined) runOf(before, token)
    after = ended(token === undefined ? before : { ...before, running: null }, checked, Date.now())
    return after ? jobs.with(jobs.indexOf(before), after) : jobs.toSpliced(jobs.indexOf(before), 1)
  })
  if (before) tell(root, before, { by, why: [run.status, run.error].filter(Boolean).join(': '), ms: Math.round(run.durationMs) })
  if (before && !after) tell(root, before, { by, why: 'deleted', changed: changesBetween(before, {}) })
  return after
}

// ---- the prompt ----

const MAX_SOURCE_BYTES = 1024 * 1024

/** The prompt of a job as it is now; undefined: it has none. Throws `EINVAL`, or the system's code, when its file cannot be read. */
export function taskOf({ task, taskSource }: Job, root: string): string | undefined {
  if (taskSource === undefined) return task
  const path = resolve(root, taskSource)
  try {
    // A FIFO would be waited for.
    if (!fs.statSync(path).isFile()) throw new LockError('EINVAL', `${path} is not a file`, { file: path })
    const bytes = fs.readFileSync(path)
    if (bytes.length > MAX_SOURCE_BYTES) throw new LockError('EINVAL', `${path} has ${bytes.length} bytes; a prompt has at most ${MAX_SOURCE_BYTES}`, { file: path })
    return textOf(bytes, path)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new LockError('ENOENT', `the task of this job is gone: there is no ${path}`, { file: path })
    throw machineError('read', { file: path }, error)
  }
}

/** What happened to a job, the oldest first. */
export function jobHistory(job: Job, root: string): (WorkEvent & { at: string })[] {
  return readEvents(root).filter(({ what }) => what === nameOf(job))
}

// ---- small things ----

function told({ dir, owner }: JobOptions): { root: string; by: string | null; place: (fields: JobPatch) => JobPatch } {
  checkLabels(owner, undefined)
  const root = findWorkspace(dir)
  const place = (fields: JobPatch): JobPatch => {
    const { writes, taskSource } = fields
    return {
      ...fields,
      ...(writes && { writes: writes.map((path) => pathIn(root, path, dir)) }),
      ...(taskSource && { taskSource: sourceIn(root, taskSource, dir) }),
    }
  }
  return { root, by: owner ?? sessionOf()?.slice(0, 100) ?? null, place }
}

// Links are followed when it is read, not now.
function sourceIn(root: string, path: string, dir: string | undefined): string {
  const whole = resolve(dir === undefined || isAbsolute(path) ? path : resolve(dir) + sep + path)
  if (!fs.statSync(whole, { throwIfNoEntry: false })?.isFile()) throw new LockError('EINVAL', `taskSource must be a file: there is no ${whole}`)
  const inside = relative(root, join(fs.realpathSync.native(join(whole, '..')), whole.slice(whole.lastIndexOf(sep) + 1)))
  return inside.startsWith('..') || isAbsolute(inside) ? whole : inside.replaceAll(sep, '/')
}

/** One job of the document instead of itself; `decide` gives undefined to take it out. */
async function change(root: string, idOrName: string, decide: (job: Job, jobs: Job[]) => Job | undefined): Promise<Job | undefined> {
  let after: Job | undefined
  await changeDocument(root, JOBS, (jobs) => {
    const before = found(jobs, idOrName)
    after = decide(before, jobs)
    if (after === before) return undefined
    return after ? jobs.with(jobs.indexOf(before), after) : jobs.toSpliced(jobs.indexOf(before), 1)
  })
  return after
}

function found(jobs: Job[], idOrName: string): Job {
  const job = find(jobs, idOrName)
  if (job) return job
  const names = jobs.map(({ name }) => show(name))
  throw new LockError('EINVAL', `there is no job ${show(idOrName)}; there ${names.length === 0 ? 'are none' : `are ${names.slice(0, 20).join(', ')}${names.length > 20 ? ', …' : ''}`}`)
}

function find(jobs: Job[], idOrName: string): Job | undefined {
  return jobs.find(({ id }) => id === idOrName) ?? jobs.find(({ name }) => isSame(name, idOrName))
}

function checkUnique(jobs: Job[], job: Job): void {
  const other = jobs.find(({ id, name }) => id !== job.id && isSame(name, job.name))
  if (other) throw new LockError('EINVAL', `there is a job ${show(other.name)} already (${other.id}); update that one, or give another name`)
}

const isSame = (one: string, other: unknown) => typeof other === 'string' && folded(one) === folded(other)
const folded = (name: string) => name.normalize('NFC').toLowerCase()
const nameOf = ({ id }: Job) => `job:${id}`

function tell(root: string, job: Job, event: Partial<WorkEvent>): void {
  logEvent(root, { type: 'job', what: nameOf(job), ...event })
}
