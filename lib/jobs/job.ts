import { checkLabels, type Duration, LockError, show } from '../core/index.js'
import { checkLine } from '../files/index.js'
import { checkRule, finite, isLease, isTime, type Lease, type Policy } from '../work/index.js'
import { checkSchedule, nextRun, type Schedule } from './schedule.js'

/*
 * A job, as pure decisions. What its author says and what its runs leave behind are separate fields: an edit never touches the history,
 * and the end of a run touches nothing of the author's.
 *
 *     active  --- pause ---> paused --- resume ---> active
 *        \------ an `at` has run ---> completed, or failed (both --- resume, with a new time ---> active)
 *
 * A due time is used up when a run begins: `nextRunAt` is then the one after it; null for an `at`, and for an `every` until the run ends.
 */

/** What the author of a job says; {@link updateJob} takes these and no others. */
export interface JobFields {
  /** One line, 1 to 200 characters, unique without case. */
  name: string
  description?: string
  /** Default true; false: it is not due, whatever the schedule. */
  enabled: boolean
  schedule: Schedule
  /** The prompt, at most 32 KiB. */
  task?: string
  /** A file with the prompt instead, read when the job is run; kept relative to the workspace. */
  taskSource?: string
  /** What gets the prompt on its stdin: a program and its arguments, or a line for the shell. */
  command?: string | string[]
  delivery?: { channel: string; target: string }
  /** What it will write, see {@link declareWrites}; kept relative to the workspace. */
  writes?: string[]
  policy?: Policy
  /** Asks the gate of this key, by this rule. */
  slot?: { key: string; every?: Duration; offset?: Duration; cooldown?: Duration }
  /** The command is ended after this. */
  timeout?: Duration
  /** Of an `at`: the job is deleted when it has run well. */
  deleteAfterRun?: boolean
}

/** A job as its author gives it. */
export type NewJob = Omit<JobFields, 'enabled'> & { enabled?: boolean }

/** New values; null: without. A `task` takes the place of a `taskSource`, and the other way round. */
export type JobPatch = { [F in keyof JobFields]?: JobFields[F] | null }

/** What an update changed. */
export type Changes = Partial<Record<keyof JobFields, { before: unknown; after: unknown }>>

/** A job of the roster. Times are ISO, UTC; null: not yet, or never again. */
export interface Job extends JobFields {
  id: string
  /** Counts the changes by authors; a run is none. */
  rev: number
  createdAt: string
  createdBy: string | null
  updatedAt: string
  status: 'active' | 'paused' | 'completed' | 'failed'
  nextRunAt: string | null
  lastRunAt: string | null
  lastRunStatus: 'ok' | 'error' | 'skipped' | null
  lastRunDurationMs: number | null
  lastRunError: string | null
  /** SHA-256 of the prompt that the last run was given. */
  lastTaskSha256: string | null
  /** Skipped ones do not count. */
  runCount: number
  consecutiveErrors: number
  /** The run that has begun and not ended. */
  running: Running | null
}

/** A run that is going on. */
export interface Running extends Lease {
  /** Which due time it uses up; null: none, it was run by hand. */
  dueAt: string | null
}

/** How a run ended. */
export interface Run {
  /** `skipped`: it was not let through its gate, or what it writes is being written. */
  status: 'ok' | 'error' | 'skipped'
  startedAt: string | number
  durationMs: number
  error?: string | undefined
  taskSha256?: string | undefined
}

// ---- the author's fields ----

const LIMITS = { name: 200, description: 2_000, taskBytes: 32 * 1024, words: 1_000, writes: 1_000, error: 2_000 }
/** How the ids of jobs look. */
const ID = /^job-[0-9a-f]{10}$/

type Check = (value: unknown, now: number) => unknown

const CHECKS: Record<keyof JobFields, Check> = {
  name(value) {
    checkLine('name', value)
    const name = value as string
    if (name === '' || name.length > LIMITS.name) throw new LockError('EINVAL', `name must have 1 to ${LIMITS.name} characters, not ${name.length}`)
    if (name.trim() !== name) throw new LockError('EINVAL', `name must not begin or end with a space: ${show(name)}`)
    if (ID.test(name)) throw new LockError('EINVAL', `name must not look like an id: ${show(name)}`)
    return name
  },
  description: (value) => textUpTo(LIMITS.description, 'description', value),
  enabled: (value) => truth('enabled', value),
  schedule: checkSchedule,
  task(value) {
    const task = textUpTo(Infinity, 'task', value)
    const bytes = Buffer.byteLength(task)
    if (bytes > LIMITS.taskBytes) throw new LockError('EINVAL', `task has ${bytes} bytes, there is room for ${LIMITS.taskBytes}; write it to a file, and name that as taskSource`)
    return task
  },
  taskSource: (value) => textUpTo(4_096, 'taskSource', value),
  command(value) {
    if (typeof value === 'string') return textUpTo(LIMITS.taskBytes, 'command', value)
    if (!isTexts(value) || value.length === 0 || value.length > LIMITS.words || value[0] === '') throw new LockError('EINVAL', `command must be a line for the shell, or a list of words that begins with a program, not ${show(value)}`)
    return value
  },
  delivery(value) {
    const { channel, target } = exactly('delivery', value, ['channel', 'target'])
    return { channel: textUpTo(LIMITS.name, 'delivery.channel', channel), target: textUpTo(LIMITS.description, 'delivery.target', target) }
  },
  writes(value) {
    if (!isTexts(value) || value.length === 0 || value.length > LIMITS.writes || value.includes('')) throw new LockError('EINVAL', `writes must be a list of 1 to ${LIMITS.writes} paths, not ${show(value)}`)
    return value
  },
  policy(value) {
    if (value !== 'refuse' && value !== 'queue' && value !== 'warn') throw new LockError('EINVAL', `policy must be refuse, queue or warn, not ${show(value)}`)
    return value
  },
  slot(value) {
    const slot = exactly('slot', value, ['key', 'every', 'offset', 'cooldown']) as NonNullable<JobFields['slot']>
    const { key, ...rule } = slot
    checkRule(key, rule)
    return slot
  },
  timeout(value) {
    finite(value, 'timeout')
    return value
  },
  deleteAfterRun: (value) => truth('deleteAfterRun', value),
}

/** The names of the author's fields. */
export const FIELDS = Object.keys(CHECKS) as (keyof JobFields)[]
const NEEDED = ['name', 'enabled', 'schedule'] as const

function checkFields(given: unknown, what: string, now: number): JobPatch {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw new LockError('EINVAL', `${what} must be an object, not ${show(given)}`)
  const unknown = Object.keys(given).find((key) => !Object.hasOwn(CHECKS, key))
  if (unknown !== undefined) throw new LockError('EINVAL', `${show(unknown)} is not for an author to say; ${what} has ${FIELDS.join(', ')}`)
  const told = Object.entries(given).filter(([, value]) => value !== undefined)
  return Object.fromEntries(told.map(([key, value]) => [key, value === null ? null : CHECKS[key as keyof JobFields](value, now)]))
}

const withoutNulls = (fields: JobPatch): JobPatch => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null))

// What the fields say together.
function checkTogether(fields: JobFields): void {
  const { task, taskSource, command, schedule, deleteAfterRun, policy, writes } = fields
  if (task !== undefined && taskSource !== undefined) throw new LockError('EINVAL', 'give task or taskSource, not both: a copy of a file is soon out of date')
  if (task === undefined && taskSource === undefined && command === undefined) throw new LockError('EINVAL', 'a job needs something to do: task, taskSource or command')
  if (deleteAfterRun && schedule.kind !== 'at') throw new LockError('EINVAL', "deleteAfterRun is for a job that runs once (schedule { kind: 'at' })")
  if (policy !== undefined && writes === undefined) throw new LockError('EINVAL', 'policy is about writes; give these too')
}

/** A new job from what its author says. `place`: makes its paths relative to the workspace. Throws `EINVAL`. */
export function newJob(given: unknown, place: (fields: JobPatch) => JobPatch, by: string | null, id: string, now: number): Job {
  const fields = checkFields(given, 'a job', now)
  for (const name of ['name', 'schedule'] as const) if (fields[name] == null) throw new LockError('EINVAL', `a job needs a ${name}`)
  const { name, description, enabled, schedule, ...rest } = { enabled: true, ...place(withoutNulls(fields)) } as JobFields
  const at = new Date(now).toISOString()
  const job: Job = {
    id,
    rev: 1,
    name,
    ...(description !== undefined && { description }),
    enabled,
    schedule,
    ...rest,
    createdAt: at,
    createdBy: by,
    updatedAt: at,
    status: 'active',
    nextRunAt: timeOf(nextRun(schedule, now)),
    lastRunAt: null,
    lastRunStatus: null,
    lastRunDurationMs: null,
    lastRunError: null,
    lastTaskSha256: null,
    runCount: 0,
    consecutiveErrors: 0,
    running: null,
  }
  checkTogether(job)
  return job
}

/** The job with a patch, and what that changed: nothing, when it says what is so already. Throws `EINVAL`. */
export function patched(job: Job, given: unknown, place: (fields: JobPatch) => JobPatch, now: number): { job: Job; changed: Changes } {
  const fields = checkFields(given, 'a patch', now)
  if (Object.keys(fields).length === 0) throw new LockError('EINVAL', `the patch is empty; it may have ${FIELDS.join(', ')}`)
  const missing = NEEDED.find((name) => fields[name] === null)
  if (missing !== undefined) throw new LockError('EINVAL', `a job cannot be without ${missing}`)
  const implied: JobPatch = {}
  if (fields.task && fields.taskSource === undefined) implied.taskSource = null
  if (fields.taskSource && fields.task === undefined) implied.task = null
  if (fields.schedule && fields.schedule.kind !== 'at' && fields.deleteAfterRun === undefined) implied.deleteAfterRun = null
  const after: Job = { ...job }
  for (const [field, value] of Object.entries({ ...implied, ...place(fields) })) {
    if (value === null) delete after[field as 'task']
    else Object.assign(after, { [field]: value })
  }
  checkTogether(after)
  const changed = changesBetween(job, after)
  if (Object.keys(changed).length === 0) return { job, changed }
  after.rev = job.rev + 1
  after.updatedAt = new Date(now).toISOString()
  if (changed.schedule && after.status === 'active') after.nextRunAt = timeOf(nextRun(after.schedule, now, lastEnd(after)))
  return { job: after, changed }
}

/** What differs, by field. */
export function changesBetween(before: Partial<JobFields>, after: Partial<JobFields>): Changes {
  const differing = FIELDS.filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]))
  return Object.fromEntries(differing.map((field) => [field, { before: before[field] ?? null, after: after[field] ?? null }]))
}

// ---- pausing ----

export function paused(job: Job, now: number): Job {
  if (job.status === 'paused') return job
  if (job.status !== 'active') throw new LockError('EINVAL', `${show(job.name)} has ${job.status}, there is nothing to pause`)
  return { ...job, rev: job.rev + 1, updatedAt: new Date(now).toISOString(), status: 'paused', nextRunAt: null }
}

/** Active again, from now on: what would have been due meanwhile is left out. */
export function resumed(job: Job, now: number): Job {
  if (job.status === 'active') return job
  const next = nextRun(job.schedule, now, lastEnd(job))
  if (next === undefined) throw new LockError('EINVAL', `the time of ${show(job.name)} has passed; give it a new schedule first, then resume it`)
  return { ...job, rev: job.rev + 1, updatedAt: new Date(now).toISOString(), status: 'active', nextRunAt: timeOf(next) }
}

// ---- running ----

export function isDue({ status, enabled, nextRunAt }: Job, now: number): boolean {
  return status === 'active' && enabled && nextRunAt !== null && Date.parse(nextRunAt) <= now
}

/** The job with a run that begins now, and uses up the due time that has come. */
export function begun(job: Job, lease: Lease, now: number): Job {
  if (!isDue(job, now)) return { ...job, running: { ...lease, dueAt: null } }
  const next = job.schedule.kind === 'cron' ? nextRun(job.schedule, now) : undefined
  return { ...job, nextRunAt: timeOf(next), running: { ...lease, dueAt: job.nextRunAt } }
}

/** The job after a run; undefined: it is deleted. Whatever its author has said meanwhile stays. */
export function ended(job: Job, run: Run, now: number): Job | undefined {
  const { status, startedAt, durationMs, error, taskSha256 } = run
  const startMs = new Date(startedAt).getTime()
  const after: Job = {
    ...job,
    lastRunAt: new Date(startMs).toISOString(),
    lastRunStatus: status,
    lastRunDurationMs: Math.round(durationMs),
    lastRunError: error?.slice(0, LIMITS.error) ?? null,
    lastTaskSha256: taskSha256 ?? job.lastTaskSha256,
    runCount: job.runCount + (status === 'skipped' ? 0 : 1),
    consecutiveErrors: status === 'skipped' ? job.consecutiveErrors : status === 'error' ? job.consecutiveErrors + 1 : 0,
  }
  if (job.status !== 'active') return after
  // Another scheduler's run used up this due time; or an author has given a new one meanwhile.
  const isOpen = job.nextRunAt !== null && Date.parse(job.nextRunAt) > startMs
  if (job.schedule.kind === 'at') {
    if (isOpen) return after
    if (job.deleteAfterRun && status === 'ok') return undefined
    return { ...after, status: status === 'error' ? 'failed' : 'completed', nextRunAt: null }
  }
  if (job.schedule.kind === 'cron' && isOpen) return after
  return { ...after, nextRunAt: timeOf(nextRun(job.schedule, now, startMs + durationMs)) }
}

/** A run as it may be recorded. Throws `EINVAL`. */
export function checkRun(value: unknown): Run {
  const run = exactly('a run', value, ['status', 'startedAt', 'durationMs', 'error', 'taskSha256']) as Record<keyof Run, unknown>
  const { status, startedAt, durationMs, error, taskSha256 } = run
  if (status !== 'ok' && status !== 'error' && status !== 'skipped') throw new LockError('EINVAL', `status must be ok, error or skipped, not ${show(status)}`)
  if ((typeof startedAt !== 'string' && typeof startedAt !== 'number') || Number.isNaN(new Date(startedAt).getTime())) throw new LockError('EINVAL', `startedAt must be an ISO time, not ${show(startedAt)}`)
  if (typeof durationMs !== 'number' || !(durationMs >= 0 && durationMs < Infinity)) throw new LockError('EINVAL', `durationMs must be milliseconds, not ${show(durationMs)}`)
  if (error !== undefined && typeof error !== 'string') throw new LockError('EINVAL', `error must be a text, not ${show(error)}`)
  if (taskSha256 !== undefined && !/^[0-9a-f]{64}$/.test(String(taskSha256))) throw new LockError('EINVAL', `taskSha256 must be 64 hex digits, not ${show(taskSha256)}`)
  return run as Run
}

/** When the last run ended; undefined: there was none. */
function lastEnd({ lastRunAt, lastRunDurationMs }: Job): number | undefined {
  return lastRunAt === null ? undefined : Date.parse(lastRunAt) + (lastRunDurationMs ?? 0)
}

const timeOf = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString())

// ---- stored ----

/** What is wrong with a record of the roster; undefined when nothing is. */
export function faultOf(value: unknown): string | undefined {
  try {
    checkStored(value)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

function checkStored(value: unknown): void {
  if (typeof value !== 'object' || value === null) throw new LockError('EINVAL', `a job must be an object, not ${show(value)}`)
  const job = value as Job
  const author = Object.fromEntries(Object.entries(job).filter(([key]) => Object.hasOwn(CHECKS, key)))
  const fields = checkFields(author, 'a job', -Infinity)
  const missing = NEEDED.find((name) => fields[name] === undefined || fields[name] === null)
  if (missing !== undefined) throw new LockError('EINVAL', `${missing} is missing`)
  checkTogether(job)
  checkLabels(job.createdBy ?? undefined, undefined)
  const isCount = (count: unknown) => Number.isInteger(count) && (count as number) >= 0
  const isTimeOrNull = (time: unknown) => time === null || isTime(time)
  const isRunning = (running: Running | null) => running === null || (typeof running === 'object' && isLease(running) && isTimeOrNull(running.dueAt))
  const sound: Partial<Record<keyof Job, boolean>> = {
    id: typeof job.id === 'string' && ID.test(job.id),
    rev: isCount(job.rev),
    createdAt: isTime(job.createdAt),
    updatedAt: isTime(job.updatedAt),
    status: ['active', 'paused', 'completed', 'failed'].includes(job.status),
    nextRunAt: isTimeOrNull(job.nextRunAt),
    lastRunAt: isTimeOrNull(job.lastRunAt),
    lastRunStatus: [null, 'ok', 'error', 'skipped'].includes(job.lastRunStatus),
    lastRunDurationMs: job.lastRunDurationMs === null || isCount(job.lastRunDurationMs),
    lastRunError: job.lastRunError === null || typeof job.lastRunError === 'string',
    lastTaskSha256: job.lastTaskSha256 === null || typeof job.lastTaskSha256 === 'string',
    runCount: isCount(job.runCount),
    consecutiveErrors: isCount(job.consecutiveErrors),
    running: isRunning(job.running),
  }
  const unsound = (Object.keys(sound) as (keyof Job)[]).find((key) => !sound[key])
  if (unsound !== undefined) throw new LockError('EINVAL', `${unsound} cannot be ${show(job[unsound])}`)
}

// ---- small things ----

const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every((each) => typeof each === 'string' && !each.includes('\0'))

function textUpTo(length: number, name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '' && value.length <= length && !value.includes('\0')) return value
  const what = typeof value === 'string' && value.length > length ? `one of ${value.length}` : show(value)
  throw new LockError('EINVAL', `${name} must be a text${length === Infinity ? '' : ` of 1 to ${length} characters`}, not ${what}`)
}

function truth(name: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value
  throw new LockError('EINVAL', `${name} must be true or false, not ${show(value)}`)
}

function exactly(name: string, value: unknown, keys: string[]): Record<string, unknown> {
  const unknown = typeof value === 'object' && value !== null ? Object.keys(value).find((key) => !keys.includes(key)) : ''
  if (unknown === undefined) return value as Record<string, unknown>
  throw new LockError('EINVAL', `${name} must be an object with ${keys.join(', ')}, not ${unknown === '' ? show(value) : `one with ${show(unknown)}`}`)
}
