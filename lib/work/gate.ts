import { checkLabels, type Duration, idOf, LockError, show, toMs } from '../core/index.js'
import { checkLine } from '../files/index.js'
import { beginLease, extendLease, isLease, isTime, overBy } from './lease.js'
import { ask, begin, finish, newSlot, type Outcome, type Recovered, type Refused, type Rule, type Running, type Slot } from './slot.js'
import { changeDocument, findWorkspace, HELD_LONG_MS, type Kind, listDocument, logEvent, readDocument } from './workspace.js'

/** Where and by whom; the rule, if the caller has one. */
export interface GateOptions {
  /** Once in each period of this length; periods begin at 1970-01-01T00:00Z plus `offset`. */
  every?: Duration | undefined
  /** Moves the periods of `every`. */
  offset?: Duration | undefined
  /** Not sooner than this after the last that was done, by whomever. */
  cooldown?: Duration | undefined
  /** Once for this name, such as a date or a version: the last 100 names are known. */
  slot?: string | undefined
  /** How long a run may take before the slot is open again. Default `'1h'`. */
  ttl?: Duration | undefined
  /** A label for people. */
  owner?: string | undefined
  /** The process that does the work: when it is dead, the slot is open again. Default: only the TTL counts. */
  pid?: number | undefined
  /** The workspace. Default: the nearest above the working folder. */
  dir?: string | undefined
}

/** Go: the slot is ours until one of its endings, its process's death, or `expiresAt`. */
export interface Go {
  go: true
  key: string
  /** The period (its begin, ISO) or the name that this run counts for; null without such a rule. */
  slot: string | null
  /** Ends the run from any process. */
  token: string
  /** ISO, UTC. */
  expiresAt: string
  /** A run before this one that did not say how it ended: its work may be half done. */
  recovered: Recovered | null
  /** Runs in a row, before this one, that failed or were lost. */
  failures: number
  /** Shipped. The note is for those who are refused by it. */
  complete(note?: string): Promise<void>
  /** Failed: open again at once, and counted. */
  fail(note?: string): Promise<void>
  /** Nothing to ship: open again. */
  free(note?: string): Promise<void>
  /** The TTL from now; gives the new `expiresAt`. */
  renew(): Promise<string>
  /** One more process with whose death the slot is open again (when all of them are dead). */
  bind(pid: number): Promise<void>
}

/** Skip: somebody is at it, or it has been done. */
export interface Skip extends Refused {
  key: string
}

const SLOTS: Kind<Slot> = { name: 'slots', isEntry: isSlot }
const OPTIONS = ['every', 'offset', 'cooldown', 'slot', 'ttl', 'owner', 'pid', 'dir'] satisfies (keyof GateOptions)[]
const MAX_KEY_LENGTH = 200
const MAX_NOTE_BYTES = 2_000

/**
 * Asks, before any work is begun, whether it is to be done: go, or skip, because somebody is at it or has done it. The rule belongs to
 * the caller, the record to the key: one job asks with `cooldown: '15m'`, another without any rule is refused only while somebody is
 * running, and what either has done counts for both.
 *
 * Rejects with `EINVAL`, or the system's code. A damaged record is moved aside, and the answer is go.
 *
 * @example
 * const answer = await gate('heartbeat', { cooldown: '15m', owner: 'hourly' })
 * if (!answer.go) console.log(`skipped: ${answer.reason} by ${answer.by} at ${answer.at}`)
 * else await answer.complete('replied to the review')
 */
export async function gate(key: string, options: GateOptions = {}): Promise<Go | Skip> {
  checkKey(key)
  checkOptions(options, OPTIONS)
  const rule = ruleOf(options)
  const { owner, pid, ttl = '1h', dir } = options
  checkLabels(owner, undefined)
  const claimant = { owner, pid, ttlMs: finite(ttl, 'ttl') }
  const root = findWorkspace(dir)
  const what = `slot:${key}`
  const skip = (refused: Refused): Skip => {
    const { by, reason, until } = refused
    logEvent(root, { type: 'skipped', what, by: owner ?? null, against: by, why: reason, until })
    const { go, ...facts } = refused
    return { go, key, ...facts }
  }
  const rumour = ask(slotIn(readDocument(root, SLOTS), key), rule, Date.now(), overBy)
  if (!rumour.go) return skip(rumour)
  const { token, lease } = beginLease(claimant)
  let answer = rumour as ReturnType<typeof ask>
  await changeDocument(root, SLOTS, (slots) => {
    answer = ask(slotIn(slots, key), rule, Date.now(), overBy)
    return answer.go ? withSlot(slots, begin(answer.record, { ...lease, slot: answer.slot })) : undefined
  })
  if (!answer.go) return skip(answer)
  const { slot, recovered, failures } = answer
  if (recovered) logEvent(root, { type: 'recovered', what, by: owner ?? null, against: recovered.by, why: recovered.why, ms: Date.now() - Date.parse(recovered.since) })
  const end = (outcome: Ending) => (note?: string) => endSlot(key, token, outcome, { note, dir: root })
  return {
    go: true,
    key,
    slot,
    token,
    expiresAt: lease.until,
    recovered,
    failures,
    complete: end('done'),
    fail: end('failed'),
    free: end('free'),
    renew: () => renewSlot(key, token, { dir: root }),
    bind: (pid) => bindSlot(key, token, pid, { dir: root }),
  }
}

// ---- by token, from any process ----

export interface SlotOptions {
  dir?: string | undefined
}

export interface EndOptions extends SlotOptions {
  /** One line, at most 2,000 bytes, for those who ask next. */
  note?: string | undefined
}

type Ending = 'done' | 'failed' | 'free'

/**
 * Ends a run: shipped. Rejects with `ENOTACQUIRED` when the slot is not this token's any more; the message says who has it, or how it
 * ended; `EINVAL`, or the system's code.
 */
export function completeSlot(key: string, token: string, options: EndOptions = {}): Promise<void> {
  return endSlot(key, token, 'done', options)
}

/** Ends a run: failed; the slot is open again at once. Rejects as {@link completeSlot}. */
export function failSlot(key: string, token: string, options: EndOptions = {}): Promise<void> {
  return endSlot(key, token, 'failed', options)
}

/** Ends a run: nothing shipped; the slot is open again. Rejects as {@link completeSlot}. */
export function freeSlot(key: string, token: string, options: EndOptions = {}): Promise<void> {
  return endSlot(key, token, 'free', options)
}

/** The TTL of a run from now; gives the new end (ISO). Rejects as {@link completeSlot}. */
export async function renewSlot(key: string, token: string, options: SlotOptions = {}): Promise<string> {
  return (await extend(key, token, options, (running) => extendLease(running))).until
}

/** Binds a run to one more process. Rejects as {@link completeSlot}. */
export async function bindSlot(key: string, token: string, pid: number, options: SlotOptions = {}): Promise<void> {
  await extend(key, token, options, (running) => extendLease(running, pid))
}

/** The slots of a workspace, as they are. Throws `EINVAL` (with `file`) when their document is damaged. */
export function listSlots(options: SlotOptions = {}): SlotState[] {
  checkOptions(options)
  return listDocument(findWorkspace(options.dir), SLOTS).map(({ key, running, failures, outcomes }) => {
    const why = running ? overBy(running) : undefined
    const last = outcomes[0] ?? null
    return { key, state: running ? (why ? 'stale' : 'running') : (last?.outcome ?? 'free'), why: why ?? null, running, failures, last, outcomes }
  })
}

/** A slot as {@link listSlots} shows it. */
export interface SlotState {
  key: string
  /** `stale`: running, and its process is dead or its time is over: open for the next who asks. */
  state: 'running' | 'stale' | Outcome['outcome']
  why: Recovered['why'] | null
  running: Running | null
  failures: number
  last: Outcome | null
  outcomes: Outcome[]
}

async function endSlot(key: string, token: string, outcome: Ending, options: EndOptions): Promise<void> {
  checkOptions(options)
  const { note, dir } = options
  checkNote(note)
  const text = note === undefined || note === '' ? null : note
  const run = await changeSlot(key, token, dir, (slot, id) => finish(slot, id, outcome, text, Date.now()))
  const ms = Date.now() - Date.parse(run.running.since)
  if (ms > HELD_LONG_MS) logEvent(run.root, { type: 'held', what: `slot:${key}`, by: run.running.by, why: outcome, ms })
}

async function extend(key: string, token: string, options: SlotOptions, change: (running: Running) => Running): Promise<Running> {
  checkOptions(options)
  let after: Running | undefined
  await changeSlot(key, token, options.dir, (slot, id) => {
    if (slot.running?.id !== id) return undefined
    after = change(slot.running)
    return begin(slot, after)
  })
  return after!
}

async function changeSlot(key: string, token: string, dir: string | undefined, change: (slot: Slot, id: string) => Slot | undefined): Promise<{ root: string; running: Running }> {
  checkKey(key)
  const id = idOf(token)
  const root = findWorkspace(dir)
  let running: Running | undefined
  await changeDocument(root, SLOTS, (slots) => {
    const before = slotIn(slots, key)
    const after = change(before, id)
    if (!after) {
      logEvent(root, { type: 'refused', what: `slot:${key}`, against: before.running?.by ?? null, why: 'not the holder' })
      throw notRunning(before, id)
    }
    running = before.running!
    return withSlot(slots, after)
  })
  return { root, running: running! }
}

function notRunning({ key, running, outcomes }: Slot, id: string): LockError {
  const own = outcomes.find((each) => each.id === id)
  const [last] = outcomes
  const who = (by: string | null) => (by === null ? 'somebody' : show(by))
  const lost = own?.outcome === 'lost' ? 'its time was over, or its process dead; ' : ''
  const now = running
    ? `${who(running.by)} has it since ${running.since}, until ${running.until}`
    : own && own.outcome !== 'lost'
      ? `the run ended as ${own.outcome} at ${own.at}`
      : last
        ? `nobody is at it; the last run ended as ${last.outcome}, by ${who(last.by)}, at ${last.at}`
        : 'nobody is at it'
  return new LockError('ENOTACQUIRED', `this token does not have the slot ${show(key)}: ${lost}${now}`)
}

// ---- checks ----

/** Throws `EINVAL` for what {@link gate} would not take. */
export function checkRule(key: unknown, rule: GateOptions): void {
  checkKey(key)
  ruleOf(rule)
}

function ruleOf({ every, offset, cooldown, slot }: GateOptions): Rule {
  if (every !== undefined && slot !== undefined) throw new LockError('EINVAL', 'every makes the slots itself; give it, or slot')
  if (offset !== undefined && every === undefined) throw new LockError('EINVAL', 'offset moves the periods of every; give that too')
  if (slot !== undefined) {
    checkLine('slot', slot)
    if (slot === '' || slot.length > MAX_KEY_LENGTH) throw new LockError('EINVAL', `slot must have 1 to ${MAX_KEY_LENGTH} characters, not ${slot.length}`)
  }
  return {
    every: every === undefined ? undefined : finite(every, 'every'),
    offset: offset === undefined || toMs(offset, 'offset') === 0 ? undefined : finite(offset, 'offset'),
    cooldown: cooldown === undefined ? undefined : toMs(cooldown, 'cooldown'),
    slot,
  }
}

const LONGEST_MS = 10 * 365 * 86_400_000

/** Milliseconds of a time that is neither nothing nor for ever. Throws `EINVAL`. */
export function finite(value: unknown, name: string): number {
  const ms = toMs(value, name)
  if (!(ms >= 1 && ms <= LONGEST_MS)) throw new LockError('EINVAL', `${name} must be longer than 0, a millisecond or more, and at most ten years, not ${show(value)}`)
  return ms
}

/** Options, and only those that there are: a rule with a typing error would be none. Throws `EINVAL`. */
export function checkOptions(options: unknown, names?: string[]): void {
  if (typeof options !== 'object' || options === null) throw new LockError('EINVAL', `options must be an object, not ${show(options)}`)
  const unknown = names && Object.keys(options).find((name) => !names.includes(name))
  if (unknown !== undefined) throw new LockError('EINVAL', `there is no option ${show(unknown)}; there are ${names!.join(', ')}`)
}

function checkKey(key: unknown): void {
  checkLine('the key of a slot', key)
  const { length } = key as string
  if (length === 0 || length > MAX_KEY_LENGTH) throw new LockError('EINVAL', `the key of a slot must have 1 to ${MAX_KEY_LENGTH} characters, not ${length}`)
}

function checkNote(note: unknown): void {
  if (note === undefined) return
  checkLine('note', note)
  const bytes = Buffer.byteLength(note as string)
  if (bytes > MAX_NOTE_BYTES) throw new LockError('EINVAL', `note has ${bytes} bytes, there is room for ${MAX_NOTE_BYTES}; write it to a file, and name that`)
}

// ---- the document ----

function slotIn(slots: Slot[], key: string): Slot {
  return slots.find((slot) => slot.key === key) ?? newSlot(key)
}

function withSlot(slots: Slot[], slot: Slot): Slot[] {
  const index = slots.findIndex(({ key }) => key === slot.key)
  return index < 0 ? [...slots, slot] : slots.with(index, slot)
}

function isSlot(value: object): boolean {
  const { key, running, failures, outcomes } = value as Record<string, unknown>
  return typeof key === 'string' && (running === null || (typeof running === 'object' && isLease(running) && isText((running as Running).slot))) && Number.isInteger(failures) && Array.isArray(outcomes) && outcomes.every(isOutcome)
}

function isOutcome(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { outcome, slot, id, by, since, at, note } = value as Record<string, unknown>
  return ['done', 'failed', 'free', 'lost'].includes(outcome as string) && typeof id === 'string' && [slot, by, note].every(isText) && isTime(since) && isTime(at)
}

const isText = (value: unknown) => value === null || typeof value === 'string'
