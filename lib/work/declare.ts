import { basename, checkLabels, dirname, Doorbell, type Duration, fs, idOf, type Inspection, inspectLock, inspectLockFile, join, lockFilesBelow, LockError, nameLock, pollDelay, relative, sep, show, toMs } from '../core/index.js'
import { checkLine } from '../files/index.js'
import { checkOptions, finite } from './gate.js'
import { type Conflict, conflictsOf, type Intent as Entry, isCircle, noted, overlap, type Policy, replaced } from './intents.js'
import { beginLease, extendLease, isLease, isProcess, overBy, type Processes, processesOf, processHere, sharesProcess } from './lease.js'
import { recall } from './session.js'
import { asWorkErrors, changeDocument, findWorkspace, FOLDER, HELD_LONG_MS, type Kind, listDocument, logEvent, pathIn, readConfig, readDocument, type WorkEvent } from './workspace.js'

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
  /**
   * Told of what is in the way: once when refused or queued, or of overlaps (`warn`), also of those that come later, at `renew`. What it
   * throws is dropped.
   */
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

export const INTENTS: Kind<Entry> = { name: 'intents', isEntry: isIntent }
const OPTIONS = ['task', 'writes', 'policy', 'ttl', 'wait', 'signal', 'owner', 'pid', 'onConflict', 'dir'] satisfies (keyof DeclareOptions)[]
const LIMITS = { task: 200, writes: 1_000 }
/** A task that waits keeps its place while it renews this. */
const PLACE_TTL_MS = 60_000
const LOOK_MS = 1_000

/**
 * Declares, before a task starts, which paths it will write: all or nothing. A conflict is an intent of another task, admitted or
 * earlier in the queue, or a lock that somebody else holds, on a path that is the same, above or below. Who would wait for itself, since
 * somebody in its way waits for what it has already, is refused at once.
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
    try {
      const answer: unknown = conflicts.length > 0 && options.onConflict?.(conflicts)
      if (answer instanceof Promise) answer.catch(() => {})
    } catch {
      // By now it stands in the registry, and whoever listens must not lose its token.
    }
  }
  const { token, lease } = beginLease(asked)
  const id = idOf(token)
  const locks = await locksInTheWay(asked)
  let conflicts: Conflict[] = []
  let over: Entry[] = []
  let refused: string | undefined
  const place = inQueue(asked, id)
  await changeDocument(root, INTENTS, (before) => {
    over = []
    refused = policy === 'refuse' ? '' : undefined
    conflicts = [...inTheWay(before, asked, over), ...locks]
    const intents = withoutOver(before, over)
    const entry: Entry = { task, writes, ...lease }
    if (conflicts.length === 0) return [...intents, entry]
    if (policy === 'queue' && intents.some((each) => !each.queued && isSame(each, asked)) && isCircle(intents, task, conflicts, isOver)) refused = CIRCLE
    // Whom one has told of, nobody is told of again.
    if (refused !== undefined) return over.length > 0 ? intents : undefined
    if (policy === 'queue') return [...intents, place]
    const warned = { ...entry, overlaps: conflicts }
    return [...noted(intents, warned), warned]
  })
  tellOver(asked, over)
  if (conflicts.length > 0) {
    tell(refused !== undefined ? 'conflict' : policy === 'queue' ? 'queued' : 'warned', conflicts)
    if (refused !== undefined) throw refusal(task, conflicts, refused)
    if (policy === 'queue') {
      const started = performance.now()
      const until = await admission(asked, place, options.signal)
      const ms = Math.round(performance.now() - started)
      if (ms > HELD_LONG_MS) logEach(root, writes, { type: 'waited', by: task, against: conflicts[0]!.task ?? conflicts[0]!.owner, ms })
      return handle(asked, token, until, [], tell)
    }
  }
  return handle(asked, token, lease.until, policy === 'warn' ? conflicts : [], tell)
}

// ---- waiting ----

// Gives the time at which the admitted intent ends.
async function admission(asked: Asked, place: Entry, signal: AbortSignal | undefined): Promise<string> {
  const { root, task, waitMs } = asked
  const { id } = place
  const started = performance.now()
  const doorbell = new Doorbell(join(root, FOLDER, 'intents.json'))
  let renewed = started
  try {
    for (let looks = 0; ; looks++) {
      const left = waitMs - (performance.now() - started)
      await doorbell.wait(Math.max(0, Math.min(left, pollDelay(Infinity, looks))), signal)
      signal?.throwIfAborted()
      let conflicts = stillInTheWay(readDocument(root, INTENTS), asked, id)
      if (conflicts === undefined) {
        if (!overBy(place)) throw new LockError('ENOTACQUIRED', `${show(task)} is not in the queue any more: somebody withdrew it`)
        // Asleep for longer than the place is good for: back to the end.
        place = inQueue(asked, id)
        await changeDocument(root, INTENTS, (intents) => [...intents, place])
        continue
      }
      // They are looked for in whole folders.
      if (conflicts.length === 0) conflicts = await locksInTheWay(asked)
      if (conflicts.length === 0) {
        const until = await admit(asked, id)
        if (until !== undefined) return until
      } else if (performance.now() - started >= waitMs) {
        logEach(root, conflicts.map(({ path }) => path), { type: 'conflict', by: task, against: conflicts[0]!.task ?? conflicts[0]!.owner, why: 'waited in vain', ms: Math.round(performance.now() - started) })
        throw refusal(task, conflicts, `, after waiting for ${Math.round((performance.now() - started) / 1000)} s`)
      }
      if (performance.now() - renewed > PLACE_TTL_MS / 3) {
        renewed = performance.now()
        await changeDocument(root, INTENTS, (intents) => replaced(intents, id, (entry) => (place = extendLease(entry))))
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
async function admit(asked: Asked, id: string): Promise<string | undefined> {
  let until: string | undefined
  let over: Entry[] = []
  await changeDocument(asked.root, INTENTS, (intents) => {
    over = []
    if (stillInTheWay(intents, asked, id, over)?.length !== 0) return undefined
    const { lease } = beginLease(asked)
    until = lease.until
    return replaced(withoutOver(intents, over), id, ({ task, writes }) => ({ task, writes, ...lease, id }))
  })
  if (until !== undefined) tellOver(asked, over)
  return until
}

function stillInTheWay(intents: Entry[], asked: Asked, id: string, over: Entry[] = []): Conflict[] | undefined {
  const index = intents.findIndex((entry) => entry.id === id)
  return index < 0 ? undefined : inTheWay(intents, asked, over, index)
}

// Who waits dies with this process, whoever will do the work.
function inQueue({ task, writes, owner, worker }: Asked, id: string): Entry {
  const place = beginLease({ owner, ttlMs: PLACE_TTL_MS, pid: process.pid }).lease
  return { task, writes, ...place, id, queued: true, ...(worker?.processes && { worker: worker.processes }) }
}

// ---- what is in the way ----

// `over`: gets those that were found to have ended.
function inTheWay(intents: Entry[], asked: Asked, over: Entry[], before?: number): Conflict[] {
  return conflictsOf(intents, asked.writes, (entry) => isSame(entry, asked), (entry) => isOver(entry) && over.push(entry) > 0, before)
}

const isOver = (entry: Entry) => overBy(entry) !== undefined

function isSame(entry: Entry, { task, worker }: Asked): boolean {
  if (entry.task !== task) return false
  // Two living processes under one name are two dispatches of one task.
  const theirs = entry.queued ? { ...entry, processes: entry.worker } : entry
  return !worker || !theirs.processes?.length || sharesProcess(worker, theirs as Processes)
}

function tellOver({ root, task }: Asked, over: Entry[]): void {
  for (const dead of over) logEach(root, dead.writes, { type: 'recovered', by: task, against: dead.task, why: overBy(dead) ?? null })
}

async function locksInTheWay({ root, writes, worker }: Asked): Promise<Conflict[]> {
  const ours = [processHere(process.pid), ...(worker ? [worker] : [])]
  const tokens = recall(root).filter(({ kind }) => kind === 'lock')
  const ids = new Set(tokens.map(({ token }) => idOf(token)))
  const isOurs = ({ stamp }: Inspection) => ids.has(stamp?.id ?? '') || ours.some((each) => sharesProcess(processesOf(stamp!), each))
  const locks: Inspection[] = []
  for (const path of writes) locks.push(...(await locksOn(root, path)))
  const found = new Map(locks.map((each) => [each.lockFile, each]))
  return [...found.values()]
    .filter((each) => each.state === 'held' && each.stamp !== undefined && !isOurs(each))
    .map(({ file, stamp }) => ({
      path: file.startsWith('name:') ? file : relative(root, file).replaceAll(sep, '/'),
      task: null,
      owner: stamp!.owner ?? null,
      since: stamp!.acquiredAt ?? null,
      expiresAt: stamp!.expiresAt ?? null,
    }))
}

// The path's own lock, those of its parts, those of what is below it; of the file of which it is a part, and of the folders above.
async function locksOn(root: string, path: string): Promise<Inspection[]> {
  if (path.startsWith('name:')) return [inspectLock(path, { lockFile: nameLock(root, path) })]
  const whole = join(root, path)
  const own = path === '.' ? [] : [inspectLock(whole)]
  for (let above = dirname(path); above !== '.'; above = dirname(above)) own.push(inspectLock(join(root, above)))
  const at = basename(path).lastIndexOf('::')
  if (at >= 0) return [...own, inspectLock(join(dirname(whole), basename(whole).slice(0, at)))]
  const isFolder = asWorkErrors('look at', whole, () => fs.statSync(whole, { throwIfNoEntry: false })?.isDirectory())
  const more = isFolder ? (await lockFilesBelow(whole)).filter((lock) => !lock.startsWith(join(root, FOLDER) + sep)) : partLocks(whole)
  return [...own, ...more.filter((lock) => lock.endsWith('.lock')).map(inspectLockFile)]
}

function partLocks(file: string): string[] {
  const folder = dirname(file)
  const names = fs.existsSync(folder) ? asWorkErrors('read', folder, () => fs.readdirSync(folder)) : []
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
    logEach(root, writes, { type: 'lost', by: task, why: entry ? 'expired' : 'withdrawn' })
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
  checkOptions(options)
  const root = findWorkspace(options.dir)
  if (!(await withdraw(root, idOf(token)))) throw gone(task, undefined)
}

/** The TTL of what a task has declared from now, or (`pid`) bound to one more process. Gives the new end. Rejects as {@link withdrawWrites}. */
export async function renewWrites(task: string, token: string, options: { pid?: number | undefined; dir?: string | undefined } = {}): Promise<string> {
  checkOptions(options)
  const { pid, dir } = options
  return (await extend(findWorkspace(dir), task, idOf(token), ...(pid === undefined ? [] : [pid]))).until
}

/** What is declared in a workspace, in the order of submission. Throws `EINVAL` (with `file`) when the document is damaged. */
export function listIntents(options: { dir?: string | undefined } = {}): IntentState[] {
  checkOptions(options)
  return listDocument(findWorkspace(options.dir), INTENTS).map((entry) => {
    const { task, writes, by, since, until, queued, overlaps, processes } = entry
    const why = overBy(entry)
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
  if (entry && ms > HELD_LONG_MS && !entry.queued) logEach(root, entry.writes, { type: 'held', by: entry.task, why: 'declared', ms })
  return entry !== undefined && !overBy(entry)
}

async function extend(root: string, task: string, id: string, ...pids: number[]): Promise<Entry> {
  let entry: Entry | undefined
  await changeDocument(root, INTENTS, (intents) =>
    replaced(intents, id, (before) => {
      // Somebody may have been let in since it was over.
      if (overBy(before)) return undefined
      return (entry = extendLease(before, ...pids))
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

const CIRCLE = ', nor wait for it, since whoever is at it waits for what this task has already (declare both at once)'

function refusal(task: string, conflicts: Conflict[], how = ''): ConflictError {
  const [first] = conflicts as [Conflict]
  const who = first.task === null ? `the lock of ${first.owner === null ? 'somebody' : show(first.owner)}` : `task ${show(first.task)}${first.owner === null ? '' : ` (${show(first.owner)})`}`
  const more = conflicts.length > 1 ? ` (and ${conflicts.length - 1} more)` : ''
  const until = first.expiresAt === null ? 'until it is released' : `until ${first.expiresAt}`
  const look = first.task === null ? `lockpact status ${first.path}` : 'lockpact intents'
  const message = `${show(task)} must not write to ${first.path}${how}: ${who} is at it since ${first.since ?? 'a time unknown'}, ${until}${more}. Look: ${look}`
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
  worker: Processes | undefined
  ttlMs: number
  waitMs: number
}

function check(options: DeclareOptions): Asked {
  checkOptions(options, OPTIONS)
  const { task, writes, ttl = '1h', wait = Infinity, signal, owner, pid, onConflict, dir } = options
  if (signal !== undefined && typeof signal?.throwIfAborted !== 'function') throw new LockError('EINVAL', `signal must be an AbortSignal, not ${show(signal)}`)
  if (onConflict !== undefined && typeof onConflict !== 'function') throw new LockError('EINVAL', `onConflict must be a function, not ${show(onConflict)}`)
  checkLine('task', task)
  if (task === '' || task.length > LIMITS.task) throw new LockError('EINVAL', `task must have 1 to ${LIMITS.task} characters, not ${task.length}`)
  if (!Array.isArray(writes) || writes.length === 0 || writes.length > LIMITS.writes) throw new LockError('EINVAL', `writes must be a list of 1 to ${LIMITS.writes} paths, not ${Array.isArray(writes) ? writes.length : show(writes)}`)
  checkLabels(owner, undefined)
  const root = findWorkspace(dir)
  const policy = options.policy === undefined ? (readConfig(root).policy ?? 'refuse') : options.policy
  if (policy !== 'refuse' && policy !== 'queue' && policy !== 'warn')
    throw new LockError('EINVAL', `policy ${options.policy === undefined ? 'in config.json ' : ''}must be refuse, queue or warn, not ${show(policy)}`)
  return { root, task, writes: reduced(writes.map((path) => pathIn(root, path, dir))), policy, owner, pid, worker: pid === undefined ? undefined : processHere(pid), ttlMs: finite(ttl, 'ttl'), waitMs: toMs(wait, 'wait') }
}

// What is covered by another of them adds nothing.
function reduced(paths: string[]): string[] {
  const unique = [...new Set(paths)].sort()
  return unique.filter((path) => !unique.some((other) => other !== path && other.length < path.length && overlap(other, path)))
}

function isIntent(value: object): boolean {
  const { task, writes, queued, worker, overlaps } = value as Record<string, unknown>
  const isListOf = (list: unknown, fits: (each: unknown) => boolean) => Array.isArray(list) && list.every(fits)
  return (
    isLease(value) &&
    typeof task === 'string' &&
    isListOf(writes, (path) => typeof path === 'string') &&
    (queued === undefined || queued === true) &&
    (worker === undefined || isListOf(worker, isProcess)) &&
    (overlaps === undefined || isListOf(overlaps, (each) => typeof each === 'object' && each !== null))
  )
}

const MAX_LOGGED = 20

// One event for each path, as everything else is logged.
function logEach(root: string, paths: string[], event: Omit<WorkEvent, 'what'>): void {
  for (const what of paths.slice(0, MAX_LOGGED)) logEvent(root, { ...event, what })
}
