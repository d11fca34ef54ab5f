import { basename, checkLabels, dirname, Doorbell, type Duration, fs, idOf, type Inspection, inspectLock, inspectLockFile, join, LOCK_FILE, lockFilesBelow, LockError, pollDelay, sep, show, toMs } from '../core/index.js'
import { checkLine } from '../files/index.js'
import { finite } from './gate.js'
import { type Conflict, conflictsOf, type Intent as Entry, noted, overlap, type Policy, replaced } from './intents.js'
import { beginLease, extendLease, isLease, type Lease, overBy } from './lease.js'
import { recall } from './session.js'
import { changeDocument, findWorkspace, FOLDER, type Kind, logEvent, pathIn, readConfig, readDocument, type WorkEvent } from './workspace.js'

/** What a task is going to write, and what is to happen when others are at it. */
export interface DeclareOptions {
  /** The task's name. A task never blocks itself: two that must exclude each other need two names, or two living processes (`pid`). */
  task: string
  /**
   * Files, folders (and what is below them), parts (`queue.md::head`), free names (`name:deploy`). None of them has to exist. Relative
   * ones are relative to `dir` where that is given, else to the working folder.
   */
  writes: string[]
  /** When somebody else is at one of them: `refuse` (default; `policy` in `.lockpact/config.json` sets another), `queue`, or `warn`. */
  policy?: Policy | undefined
  /** How long it is good for. Default `'1h'`. */
  ttl?: Duration | undefined
  /** How long to stay in the queue. Default: until it is our turn. */
  wait?: Duration | undefined
  /** Leaves the queue: the promise is then rejected with the signal's reason. */
  signal?: AbortSignal | undefined
  /** A label for people. */
  owner?: string | undefined
  /** The process with whose death the intent ends. Default: only the TTL counts. */
  pid?: number | undefined
  /** Told of what is in the way: once when refused or queued, or of overlaps (`warn`), also of those that come later, at `renew`. */
  onConflict?: ((conflicts: Conflict[]) => void) | undefined
  /** The workspace. Default: the nearest above the working folder. */
  dir?: string | undefined
}

/** A task's declared writes, admitted. */
export interface Intent {
  task: string
  /** Withdraws it from any process. */
  token: string
  /** Relative to the workspace. */
  writes: string[]
  /** With whom it overlaps (policy `warn`). */
  overlaps: Conflict[]
  /** When it ends by itself; ISO, UTC. */
  expiresAt: string
  /** Aborted when it has ended without us: withdrawn by somebody, or its time was over. Looked at every second, once it has been asked for. */
  readonly signal: AbortSignal
  /** One more process with whose death it ends (when all of them are dead): the worker that was started now. */
  bind(pid: number): Promise<void>
  /** The TTL from now. */
  renew(): Promise<void>
  /** Withdraws it; false when it was not there any more. */
  release(): Promise<boolean>
}

/** A refusal has `conflicts`. */
export type ConflictError = LockError & { conflicts: Conflict[] }

const INTENTS: Kind<Entry> = { name: 'intents', isEntry: isIntent }
const LIMITS = { task: 200, writes: 1_000 }
/** A task that waits keeps its place while it renews this. */
const PLACE_TTL_MS = 60_000
const LOOK_MS = 1_000

/**
 * Declares, before a task starts, which paths it will write: all or nothing. A conflict is an intent of another task, admitted or
 * earlier in the queue, or a lock that somebody else holds, on a path that is the same, above or below.
 *
 * Rejects with a {@link LockError}: `ELOCKED` with `conflicts` (refused, or queued for longer than `wait`), `ENOTACQUIRED` (withdrawn while
 * it waited), `EINVAL` (a path outside of the workspace, …), or the system's code; when aborted, with the signal's reason.
 *
 * @example
 * const intent = await declareWrites({ task: 'weekly-report', writes: ['memory/queue.md', 'reports'], policy: 'queue' })
 * try { intent.signal.throwIfAborted() } finally { await intent.release() }
 */
export async function declareWrites(options: DeclareOptions): Promise<Intent> {
  const asked = check(options)
  options.signal?.throwIfAborted()
  const { root, task, writes, policy } = asked
  const tell = (type: WorkEvent['type'], conflicts: Conflict[]) => {
    for (const { path, task: other, owner } of conflicts) logEvent(root, { type, what: path, by: task, against: other ?? owner, why: other === null ? 'locked' : 'declared' })
    if (conflicts.length > 0) options.onConflict?.(conflicts)
  }
  const { token, lease } = beginLease(asked)
  const id = idOf(token)
  const locks = await locksInTheWay(asked)
  let conflicts: Conflict[] = []
  let over: Entry[] = []
  await changeDocument(root, INTENTS, (before) => {
    over = []
    conflicts = [...inTheWay(before, asked, over), ...locks]
    const intents = withoutOver(before, over)
    const entry: Entry = { task, writes, ...lease }
    if (conflicts.length === 0) return [...intents, entry]
    if (policy === 'refuse') return undefined
    if (policy === 'queue') return [...intents, { ...entry, ...placeInQueue(asked, id), queued: true as const }]
    const warned = { ...entry, overlaps: conflicts }
    return [...noted(intents, warned), warned]
  })
  for (const dead of over) logEvent(root, { type: 'recovered', what: dead.writes.join(' '), by: task, against: dead.task, why: overBy(dead) ?? null })
  if (conflicts.length > 0) {
    tell(policy === 'refuse' ? 'conflict' : policy === 'queue' ? 'queued' : 'warned', conflicts)
    if (policy === 'refuse') throw refusal(task, conflicts)
    if (policy === 'queue') return handle(asked, token, await admission(asked, id, options.signal), [], tell)
  }
  return handle(asked, token, lease.until, policy === 'warn' ? conflicts : [], tell)
}

// ---- waiting ----

// Gives the time at which the admitted intent ends.
async function admission(asked: Asked, id: string, signal: AbortSignal | undefined): Promise<string> {
  const { root, task, waitMs } = asked
  const started = performance.now()
  const doorbell = new Doorbell(join(root, FOLDER, 'intents.json'))
  let renewed = started
  try {
    for (let looks = 0; ; looks++) {
      const left = waitMs - (performance.now() - started)
      await doorbell.wait(Math.max(0, Math.min(left, pollDelay(Infinity, looks))), signal)
      signal?.throwIfAborted()
      const locks = await locksInTheWay(asked)
      const conflicts = stillInTheWay(readDocument(root, INTENTS), asked, id, locks)
      if (conflicts === undefined) throw new LockError('ENOTACQUIRED', `${show(task)} is not in the queue any more: somebody withdrew it`)
      if (conflicts.length === 0) {
        const until = await admit(asked, id, locks)
        if (until !== undefined) return until
      } else if (performance.now() - started >= waitMs) throw refusal(task, conflicts, performance.now() - started)
      if (performance.now() - renewed > PLACE_TTL_MS / 3) {
        renewed = performance.now()
        await changeDocument(root, INTENTS, (intents) => replaced(intents, id, (entry) => extendLease(entry)))
      }
    }
  } catch (error) {
    await changeDocument(root, INTENTS, (intents) => replaced(intents, id, () => undefined)).catch(() => {})
    throw error
  } finally {
    doorbell.close()
  }
}

// Undefined when somebody came between.
async function admit(asked: Asked, id: string, locks: Conflict[]): Promise<string | undefined> {
  let until: string | undefined
  await changeDocument(asked.root, INTENTS, (intents) => {
    if (stillInTheWay(intents, asked, id, locks)?.length !== 0) return undefined
    const { lease } = beginLease(asked)
    until = lease.until
    return replaced(intents, id, ({ task, writes }) => ({ task, writes, ...lease, id }))
  })
  return until
}

function stillInTheWay(intents: Entry[], asked: Asked, id: string, locks: Conflict[]): Conflict[] | undefined {
  const index = intents.findIndex((entry) => entry.id === id)
  return index < 0 ? undefined : [...inTheWay(intents, asked, [], index), ...locks]
}

// Who waits dies with this process, whoever will do the work.
function placeInQueue({ owner }: Asked, id: string): Lease {
  return { ...beginLease({ owner, ttlMs: PLACE_TTL_MS, pid: process.pid }).lease, id }
}

// ---- what is in the way ----

// `over`: gets those that were found to have ended.
function inTheWay(intents: Entry[], { task, writes, pid }: Asked, over: Entry[], before?: number): Conflict[] {
  // Two living processes under one name are two dispatches of one task.
  const isSame = (entry: Entry) => entry.task === task && (pid === undefined || !entry.processes?.length || entry.queued === true || entry.processes.some((each) => each.pid === pid))
  const isOver = (entry: Entry) => overBy(entry) !== undefined && over.push(entry) > 0
  return conflictsOf(intents, writes, isSame, isOver, before)
}

async function locksInTheWay({ root, writes, pid }: Asked): Promise<Conflict[]> {
  const tokens = recall(root).filter(({ kind }) => kind === 'lock')
  const ids = new Set(tokens.map(({ token }) => idOf(token)))
  const isOurs = ({ stamp }: Inspection) => ids.has(stamp?.id ?? '') || stamp?.processes?.some((each) => each.pid === process.pid || each.pid === pid)
  const locks = (await Promise.all(writes.map((path) => locksOn(root, path)))).flat()
  const found = new Map(locks.map((each) => [each.lockFile, each]))
  return [...found.values()]
    .filter((each) => each.state === 'held' && each.stamp !== undefined && !isOurs(each))
    .map(({ lockFile, file, stamp }) => ({
      path: file.startsWith('name:') ? file : pathIn(root, lockFile.replace(LOCK_FILE, ''), undefined),
      task: null,
      owner: stamp!.owner ?? null,
      since: stamp!.acquiredAt ?? null,
      expiresAt: stamp!.expiresAt ?? null,
    }))
}

// The path's own lock, those of its parts, those of what is below it; and of the file of which it is a part.
async function locksOn(root: string, path: string): Promise<Inspection[]> {
  if (path.startsWith('name:')) return [inspectLock(path)]
  const whole = join(root, path)
  const at = basename(path).indexOf('::')
  const own = path === '.' ? [] : [inspectLock(whole)]
  if (at >= 0) return [...own, inspectLock(join(dirname(whole), basename(whole).slice(0, at)))]
  const isFolder = fs.statSync(whole, { throwIfNoEntry: false })?.isDirectory()
  const more = isFolder ? (await lockFilesBelow(whole)).filter((lock) => !lock.startsWith(join(root, FOLDER) + sep)) : partLocks(whole)
  return [...own, ...more.filter((lock) => lock.endsWith('.lock')).map(inspectLockFile)]
}

function partLocks(file: string): string[] {
  const folder = dirname(file)
  const names = fs.existsSync(folder) ? fs.readdirSync(folder) : []
  return names.filter((name) => name.startsWith(`${basename(file)}@`)).map((name) => join(folder, name))
}

// ---- what somebody has declared ----

function handle({ root, task, writes }: Asked, token: string, until: string, overlaps: Conflict[], tell: (type: WorkEvent['type'], conflicts: Conflict[]) => void): Intent {
  const id = idOf(token)
  let aborter: AbortController | undefined
  let timer: NodeJS.Timeout | undefined
  let isReleased = false
  const stop = () => clearInterval(timer)
  const look = () => {
    const entry = readDocument(root, INTENTS).find((each) => each.id === id)
    if (isReleased || (entry && !overBy(entry))) return
    stop()
    logEvent(root, { type: 'lost', what: writes.join(' '), by: task, why: entry ? 'expired' : 'withdrawn' })
    aborter!.abort(gone(task, entry))
  }
  const intent = {
    task,
    token,
    writes,
    overlaps,
    expiresAt: until,
    get signal() {
      if (!aborter) {
        aborter = new AbortController()
        timer = setInterval(() => {
          try {
            look()
          } catch {
            // The machine refuses for now.
          }
        }, LOOK_MS).unref()
      }
      return aborter.signal
    },
    async bind(pid: number) {
      intent.expiresAt = (await extend(root, task, id, pid)).until
    },
    async renew() {
      const entry = await extend(root, task, id)
      intent.expiresAt = entry.until
      const known = new Set(intent.overlaps.map((each) => `${each.task} ${each.since} ${each.path}`))
      const added = (entry.overlaps ?? []).filter((each) => !known.has(`${each.task} ${each.since} ${each.path}`))
      intent.overlaps = [...intent.overlaps, ...added]
      if (added.length > 0) tell('warned', added)
    },
    async release() {
      stop()
      isReleased = true
      return withdraw(root, id)
    },
  }
  return intent
}

/**
 * Withdraws what a task has declared, from any process. Rejects with `ENOTACQUIRED` when there is nothing of this token any more,
 * `EINVAL`, or the system's code.
 */
export async function withdrawWrites(task: string, token: string, options: { dir?: string | undefined } = {}): Promise<void> {
  const root = findWorkspace(options.dir)
  if (!(await withdraw(root, idOf(token)))) throw gone(task, undefined)
}

/** The TTL of what a task has declared from now, or (`pid`) bound to one more process. Gives the new end. Rejects as {@link withdrawWrites}. */
export async function renewWrites(task: string, token: string, options: { pid?: number | undefined; dir?: string | undefined } = {}): Promise<string> {
  return (await extend(findWorkspace(options.dir), task, idOf(token), options.pid)).until
}

/** What is declared in a workspace, in the order of submission. */
export function listIntents(options: { dir?: string | undefined } = {}): IntentState[] {
  return readDocument(findWorkspace(options.dir), INTENTS).map(({ task, writes, by, since, until, queued, overlaps, processes, ...lease }) => {
    const why = overBy({ by, since, until, ...(processes && { processes }), ...lease })
    return { task, writes, owner: by, since, expiresAt: until, state: why ?? (queued ? 'queued' : 'active'), overlaps: overlaps ?? [], pids: (processes ?? []).map(({ pid }) => pid) }
  })
}

/** An intent as {@link listIntents} shows it. */
export interface IntentState {
  task: string
  writes: string[]
  owner: string | null
  since: string
  expiresAt: string
  /** `dead`, `expired`: it ends as soon as it is in somebody's way. */
  state: 'active' | 'queued' | 'dead' | 'expired'
  overlaps: Conflict[]
  pids: number[]
}

async function withdraw(root: string, id: string): Promise<boolean> {
  let entry: Entry | undefined
  await changeDocument(root, INTENTS, (intents) => {
    entry = intents.find((each) => each.id === id)
    return replaced(intents, id, () => undefined)
  })
  const ms = entry ? Date.now() - Date.parse(entry.since) : 0
  if (entry && ms > 1_000 && !entry.queued) logEvent(root, { type: 'held', what: entry.writes.join(' '), by: entry.task, why: 'declared', ms })
  return entry !== undefined && !overBy(entry)
}

async function extend(root: string, task: string, id: string, pid?: number): Promise<Entry> {
  let entry: Entry | undefined
  await changeDocument(root, INTENTS, (intents) =>
    replaced(intents, id, (before) => {
      // Somebody may have been let in since it was over.
      if (overBy(before)) return undefined
      return (entry = extendLease(before, pid))
    }),
  )
  if (!entry) throw gone(task, undefined)
  return entry
}

// The dead are found when they are in somebody's way, the others by their time.
function withoutOver(intents: Entry[], over: Entry[]): Entry[] {
  const now = new Date().toISOString()
  return intents.filter((entry) => !over.includes(entry) && (entry.until > now || !overBy(entry)))
}

// ---- words and checks ----

function refusal(task: string, conflicts: Conflict[], waitedMs = 0): ConflictError {
  const [first] = conflicts as [Conflict]
  const who = first.task === null ? `the lock of ${first.owner === null ? 'somebody' : show(first.owner)}` : `task ${show(first.task)}${first.owner === null ? '' : ` (${show(first.owner)})`}`
  const more = conflicts.length > 1 ? ` (and ${conflicts.length - 1} more)` : ''
  const until = first.expiresAt === null ? 'until it is released' : `until ${first.expiresAt}`
  const waited = waitedMs > 0 ? `, after waiting for ${Math.round(waitedMs / 1000)} s` : ''
  const look = first.task === null ? `lockpact status ${first.path}` : 'lockpact intents'
  const message = `${show(task)} must not write to ${first.path}${waited}: ${who} is at it since ${first.since ?? 'a time unknown'}, ${until}${more}. Look: ${look}`
  const retryAfterMs = first.expiresAt === null ? undefined : Math.max(1, Date.parse(first.expiresAt) - Date.now())
  return Object.assign(new LockError('ELOCKED', message, { file: first.path, retryAfterMs }), { conflicts })
}

function gone(task: string, entry: Entry | undefined): LockError {
  const how = entry ? `ended at ${entry.until}` : 'is not there: it was withdrawn, or its time was over, or its process dead'
  return new LockError('ENOTACQUIRED', `what ${show(task)} has declared ${how}`)
}

interface Asked {
  root: string
  task: string
  writes: string[]
  policy: Policy
  owner: string | undefined
  pid: number | undefined
  ttlMs: number
  waitMs: number
}

function check(options: DeclareOptions): Asked {
  if (typeof options !== 'object' || options === null) throw new LockError('EINVAL', `declareWrites takes an object with task and writes, not ${show(options)}`)
  const { task, writes, ttl = '1h', wait = Infinity, owner, pid, dir } = options
  checkLine('task', task)
  if (task === '' || task.length > LIMITS.task) throw new LockError('EINVAL', `task must have 1 to ${LIMITS.task} characters, not ${task.length}`)
  if (!Array.isArray(writes) || writes.length === 0 || writes.length > LIMITS.writes) throw new LockError('EINVAL', `writes must be a list of 1 to ${LIMITS.writes} paths, not ${Array.isArray(writes) ? writes.length : show(writes)}`)
  checkLabels(owner, undefined)
  const root = findWorkspace(dir)
  const policy = options.policy ?? readConfig(root).policy ?? 'refuse'
  if (policy !== 'refuse' && policy !== 'queue' && policy !== 'warn') throw new LockError('EINVAL', `policy must be refuse, queue or warn, not ${show(policy)}`)
  return { root, task, writes: reduced(writes.map((path) => pathIn(root, path, dir))), policy, owner, pid, ttlMs: finite(ttl, 'ttl'), waitMs: toMs(wait, 'wait') }
}

// What is covered by another of them adds nothing.
function reduced(paths: string[]): string[] {
  const unique = [...new Set(paths)].sort()
  return unique.filter((path) => !unique.some((other) => other !== path && other.length < path.length && overlap(other, path)))
}

function isIntent(value: object): boolean {
  const { task, writes, queued, overlaps } = value as Record<string, unknown>
  return isLease(value) && typeof task === 'string' && Array.isArray(writes) && writes.every((path) => typeof path === 'string') && (queued === undefined || queued === true) && (overlaps === undefined || Array.isArray(overlaps))
}
