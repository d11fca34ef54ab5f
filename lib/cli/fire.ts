import { dirname, fs, isLockError, join, LockError, machineError, toMs } from '../core/index.js'
import { hashOf } from '../files/index.js'
import { type Begun, beginDue, beginRun, extendRun, type Job, record, type Run, taskOf } from '../jobs/index.js'
import { FOLDER, sessionWithin } from '../work/index.js'
import { EXIT, type Io } from './command.js'
import { DEFAULT_TTL_MS, type Outcome, perform, type Plan } from './run.js'

/* Runs of jobs: begun in the roster, performed as `lockpact run` does, recorded in the roster. */

export interface Firing {
  root: string
  io: Io
  /** Says words and prints nothing. */
  words: Io
  /** For jobs that have no command of their own. */
  command: string[]
  isExplicit: boolean
}

/** Runs one job now; gives the exit status. */
export async function fireOne(idOrName: string, firing: Firing): Promise<number> {
  const { root, io } = firing
  const result = await beginRun(idOrName, { ...runner(root), owner: 'jobs run' })
  const { id, name } = result.job
  if (!('token' in result)) return io.refuse({ ran: false, id, name, why: result.why }, `${name} is not run: ${result.why}`)
  const { run, status } = await fire(result, firing)
  io.print({ ran: run.status !== 'skipped', id, name, status: run.status, exitStatus: status, error: run.error ?? null }, '')
  return status
}

/**
 * Runs what is due, several at once. Without `everyMs`: each job once, then it gives the exit status; otherwise until a signal comes.
 */
export async function fireDue(firing: Firing, atOnce: number, everyMs: number | undefined): Promise<number> {
  const { root, io } = firing
  const going = new Set<Promise<void>>()
  const fired = new Set<string>()
  const counts = { ok: 0, error: 0, skipped: 0 }
  const stop = stopSignal()
  // Each run passes signals on.
  process.setMaxListeners(0)
  let complaint: string | undefined

  const start = (begun: Begun) => {
    fired.add(begun.job.id)
    const run = fire(begun, firing).then(({ run: { status } }) => {
      counts[status]++
      going.delete(run)
    })
    going.add(run)
  }
  const fill = async () => {
    while (going.size < atOnce && stop.signal === undefined) {
      const begun = await beginDue({ ...runner(root), owner: 'jobs due', ...(everyMs === undefined && { except: fired }) })
      if (!begun) return
      start(begun)
    }
  }

  try {
    for (;;) {
      await fill().catch((error: unknown) => {
        // Who goes on for ever waits until a person has mended it, and says so once.
        if (everyMs === undefined || !isLockError(error)) throw error
        if (error.message !== complaint) io.say(error.message)
        complaint = error.message
      })
      if (stop.signal !== undefined || everyMs === undefined) {
        if (going.size === 0) break
        await Promise.race(going)
      } else {
        let timer: NodeJS.Timeout | undefined
        const tick = new Promise<void>((resolve) => (timer = setTimeout(resolve, everyMs)))
        await Promise.race([stop.came, tick, ...(going.size >= atOnce ? going : [])])
        clearTimeout(timer)
      }
    }
  } finally {
    stop.off()
  }
  io.print({ fired: counts.ok + counts.error + counts.skipped, ...counts }, '')
  return stop.signal !== undefined ? 128 + stop.signal : counts.error > 0 ? 1 : EXIT.done
}

// ---- one run ----

const runner = (root: string) => ({ dir: root, ttlMs: DEFAULT_TTL_MS, pid: process.pid })

async function fire({ job, token }: Begun, firing: Firing): Promise<{ run: Run; status: number }> {
  const { root, io } = firing
  const startedAt = job.running!.since
  let taskSha256: string | undefined
  let outcome: Outcome
  try {
    const task = taskOf(job, root)
    taskSha256 = task === undefined ? undefined : hashOf(task)
    outcome = await performJob(job, task, token, firing)
  } catch (error) {
    const { code, message } = machineError('run', { file: root }, error) as LockError
    io.say(`${job.name}: ${message}`)
    outcome = { status: code === 'EINVAL' ? EXIT.badData : EXIT.cannotCreate, how: 'failed', note: message }
  }
  const { status, how, note } = outcome
  const isOk = how === 'exited' && status === 0
  const run: Run = { status: isOk ? 'ok' : how === 'skipped' ? 'skipped' : 'error', startedAt, durationMs: Math.max(0, Date.now() - Date.parse(startedAt)), taskSha256, ...(!isOk && { error: note }) }
  await persistently(() => record(job.id, run, token, { dir: root })).catch((error: unknown) => io.say(`the end of ${job.name} could not be recorded: ${(error as Error).message}`))
  return { run, status }
}

async function performJob(job: Job, task: string | undefined, token: string, firing: Firing): Promise<Outcome> {
  const { root, words, isExplicit } = firing
  const command = commandOf(job, firing)
  // One run of a job at a time: what one that was killed has left behind is replaced.
  const file = join(root, FOLDER, 'tasks', `${job.id}.md`)
  fs.mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  fs.rmSync(file, { force: true })
  fs.writeFileSync(file, task ?? '', { mode: 0o600, flag: 'wx' })
  try {
    const { slot, name, writes = [], policy, timeout } = job
    const plan: Plan = {
      command,
      root,
      session: sessionWithin(),
      slot: slot?.key,
      rule: { every: slot?.every, offset: slot?.offset, cooldown: slot?.cooldown },
      isExplicit,
      locks: [],
      writes,
      task: name,
      policy,
      wait: undefined,
      ttlMs: DEFAULT_TTL_MS,
      timeoutMs: timeout === undefined ? Infinity : toMs(timeout, 'timeout'),
      owner: labelOf(name),
      also: {
        what: `the run of ${name}`,
        bind: (pid) => extendRun(job.id, token, { dir: root, pid }),
        renew: () => extendRun(job.id, token, { dir: root }),
      },
      input: file,
      env: environmentOf(job, task === undefined ? undefined : file),
    }
    return await perform(plan, words)
  } finally {
    fs.rmSync(file, { force: true })
  }
}

function commandOf({ name, command }: Job, firing: Firing): string[] {
  if (typeof command === 'string') return ['/bin/sh', '-c', command]
  const words = command ?? firing.command
  if (words.length > 0) return words
  throw new LockError('EINVAL', `${name} has no command: give it one (lockpact jobs update … -- COMMAND), or name one for all (-- COMMAND)`)
}

function environmentOf({ id, name, delivery }: Job, taskFile: string | undefined): NodeJS.ProcessEnv {
  return {
    LOCKPACT_JOB: id,
    LOCKPACT_JOB_NAME: name,
    ...(taskFile !== undefined && { LOCKPACT_TASK_FILE: taskFile }),
    ...(delivery && { LOCKPACT_DELIVERY_CHANNEL: delivery.channel, LOCKPACT_DELIVERY_TARGET: delivery.target }),
  }
}

// ---- small things ----

const RECORD_TRIES = 10

// A run that nobody records has happened all the same.
async function persistently<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await call()
    } catch (error) {
      if (!isLockError(error) || ['EINVAL', 'ENOTACQUIRED'].includes(error.code) || tries === RECORD_TRIES) throw error
      await sleep(500 * tries)
    }
  }
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

// A label has less room than a name.
const labelOf = (name: string) => [...name].slice(0, 25).join('')

function stopSignal(): { signal: number | undefined; came: Promise<void>; off(): void } {
  const signals = [['SIGTERM', 15], ['SIGINT', 2], ['SIGHUP', 1]] as const
  const stop: ReturnType<typeof stopSignal> = { signal: undefined, came: Promise.resolve(), off: () => {} }
  stop.came = new Promise((resolve) => {
    const listeners = signals.map(([name, number]) => {
      const listener = () => {
        stop.signal ??= number
        resolve()
      }
      process.on(name, listener)
      return () => process.off(name, listener)
    })
    stop.off = () => listeners.forEach((off) => off())
  })
  return stop
}
