import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { type AcquireOptions, idOf, isLockError, type Lock, locate, LockError, type LockEvent, renewLock, resolve } from '../core/index.js'
import { completeSlot, type Conflict, declareWrites, endSession, failSlot, findWorkspace, findWorkspaceIfAny, freeSlot, gate, type GateOptions, type Go, type Intent, isGivenBack, listSlots, logEvent, logLockEvent, ownLock, remember, sessionWithin } from '../work/index.js'
import { type Command, duration, EXIT, type Io, list, text, usageError, type Values } from './command.js'
import { skipWords } from './skip.js'
import { type Ending, supervise } from './supervise.js'
import { acquireWatching } from './watching.js'

export const command: Command = {
  usage: 'run [--slot KEY] [--lock R…] [--writes P,…] [options] -- CMD…',
  about:
    'The answer for cron: asks the gate, declares what will be written, takes the locks, and only then starts the command; a skip is ' +
    'decided before there is a process. Renews while the command runs, passes signals on, and gives its exit status. When something is ' +
    'lost, the time is over, or this wrapper is killed, the whole process group of the command is ended: SIGTERM, then SIGKILL after 5 s. ' +
    'stdout is the command’s: --json prints a refusal, and nothing else.',
  operands: [0, Infinity],
  options: {
    slot: { value: 'KEY', about: 'ask the gate of this key: skip when somebody is at it, or (by the rule) has done it' },
    every: { value: 'TIME', about: 'the rule: once in each period of this length' },
    offset: { value: 'TIME', about: 'moves the periods of --every' },
    cooldown: { value: 'TIME', about: 'the rule: not sooner than this after the last that was done' },
    name: { value: 'NAME', about: 'the rule: once for this name, such as a date' },
    done: { value: 'WHEN', about: "'exit' (default): exit status 0 is done; 'explicit': only the command's own lockpact done, and without it nothing was shipped" },
    lock: { value: 'R', multiple: true, about: 'hold the lock of this file, part or free name' },
    writes: { value: 'P,…', list: true, about: 'declare that these files and folders will be written' },
    task: { value: 'T', about: 'the name for --writes (default: the slot, or the owner, or the command)' },
    policy: { value: 'P', about: 'when others write there: refuse, queue or warn' },
    wait: { value: 'TIME', about: "how long to wait for locks and for --policy queue ('forever'; default: refuse at once)" },
    ttl: { value: 'TIME', about: 'how long it is all good for when this machine is gone (default 10m); it is renewed' },
    timeout: { value: 'TIME', about: 'end the command after this' },
    owner: { value: 'LABEL', about: 'who, for people (default: the slot, or the command)' },
    dir: { value: 'DIR', about: 'the workspace' },
  },
  examples: [
    'lockpact run --slot heartbeat --cooldown 15m --done explicit --timeout 30m -- claude -p "…"',
    'lockpact run --lock memory/queue.md --wait 30s -- ./tidy-queue.sh',
    'lockpact run --writes src,docs --policy queue --task weekly -- make report',
  ],
  notes: ['76 lost while running, 126/127 the command could not be started, 128+n ended by a signal,', "otherwise the command's own; a timeout is 75 (or --conflict-exit-code)"],

  async run(words, values, io) {
    return (await perform(planOf(words, values), io)).status
  },
}

/** How a run ended, or why it did not begin. */
export interface Outcome {
  /** The exit status of the command that performs it. */
  status: number
  /** `skipped`: somebody is at it, or has done it; `failed`: it could not begin. */
  how: 'skipped' | 'failed' | Ending['how']
  /** In words. */
  note: string
}

/** Gates, declares, locks, runs the command, and gives all of it back. */
export async function perform(plan: Plan, io: Io): Promise<Outcome> {
  const held = new Held(plan, io)
  try {
    return (await held.take()) ?? (await held.work())
  } finally {
    await held.letGo()
  }
}

export interface Plan {
  command: string[]
  root: string | undefined
  session: string
  slot: string | undefined
  rule: GateOptions
  isExplicit: boolean
  locks: string[]
  writes: string[]
  task: string
  policy: 'refuse' | 'queue' | 'warn' | undefined
  wait: number | undefined
  ttlMs: number
  timeoutMs: number
  owner: string
  /** What else is held while it runs. */
  also?: { what: string; bind(pid: number): Promise<void>; renew(): Promise<void> }
  env?: NodeJS.ProcessEnv
  /** A file that is the stdin of the command. */
  input?: string | undefined
}

export const DEFAULT_TTL_MS = 600_000
/** Between two renewals; setInterval cannot count for ever. */
const LONGEST_MS = 3_600_000

function planOf(command: string[], values: Values): Plan {
  if (command.length === 0) throw usageError('the command is missing: lockpact run … -- CMD')
  const slot = text(values, 'slot')
  const [locks, writes] = [list(values, 'lock'), list(values, 'writes')]
  if (slot === undefined && locks.length === 0 && writes.length === 0) throw usageError('run needs something to hold: --slot KEY, --lock R or --writes P')
  const rules = ['every', 'offset', 'cooldown', 'name'].filter((name) => values[name] !== undefined)
  if (slot === undefined && (rules.length > 0 || values['done'] !== undefined)) throw usageError(`--${rules[0] ?? 'done'} is about a slot; give --slot KEY too`)
  const done = text(values, 'done') ?? 'exit'
  if (done !== 'exit' && done !== 'explicit') throw usageError(`--done is exit or explicit, not ${done}`)
  const dir = text(values, 'dir')
  const owner = text(values, 'owner') ?? slot ?? command[0]!.replace(/^.*[/\\]/, '').slice(0, 60)
  const ms = (name: string, word?: string) => duration(values, name, word)
  return {
    command,
    root: slot !== undefined || writes.length > 0 ? findWorkspace(dir) : findWorkspaceIfAny(dir),
    session: sessionWithin(),
    slot,
    rule: { every: ms('every'), offset: ms('offset'), cooldown: ms('cooldown'), slot: text(values, 'name') },
    isExplicit: done === 'explicit',
    locks: inOrder(locks),
    // As everywhere on the command line, relative to the working folder.
    writes: writes.map((path) => (path.startsWith('name:') ? path : resolve(path))),
    task: text(values, 'task') ?? slot ?? owner,
    policy: text(values, 'policy') as Plan['policy'],
    wait: ms('wait', 'forever'),
    ttlMs: ms('ttl') ?? DEFAULT_TTL_MS,
    timeoutMs: ms('timeout') ?? Infinity,
    owner,
  }
}

// In one order, so that two runs do not wait for each other; each once, so that none waits for itself.
function inOrder(resources: string[]): string[] {
  const places = new Map(resources.map((each) => [locate(each).lockFile, each]))
  return [...places].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each)
}

/** What a run holds, from the first to the last. */
class Held {
  readonly #plan: Plan
  readonly #io: Io
  readonly #lost = new AbortController()
  #slot: Go | undefined
  #intent: Intent | undefined
  readonly #locks: Lock[] = []
  /** Under which it goes on: those of the session around it. */
  readonly #outer: { file: string; token: string; renew(): Promise<unknown> }[] = []
  #everyMs: number
  #timer: NodeJS.Timeout | undefined
  #renewed = performance.now()

  constructor(plan: Plan, io: Io) {
    this.#plan = plan
    this.#io = io
    this.#everyMs = Math.min(plan.ttlMs / 3, LONGEST_MS)
  }

  // ---- before the command ----

  /** Takes all of it; what comes of it when somebody is in the way. */
  async take(): Promise<Outcome | undefined> {
    const { slot, rule, root, owner, ttlMs, writes, locks } = this.#plan
    if (slot !== undefined) {
      const answer = await gate(slot, { ...rule, owner, ttl: ttlMs, pid: process.pid, dir: root })
      if (!answer.go) {
        const { go, ...facts } = answer
        const note = skipWords(answer)
        this.#io.print({ go, ...facts }, '')
        this.#io.say(note)
        return { status: this.#io.conflict, how: 'skipped', note }
      }
      this.#slot = answer
      await this.#remember('slot', slot, answer.token)
      if (answer.recovered) this.#io.say(`the last run, of ${answer.recovered.by ?? 'somebody'}, did not say how it ended (${answer.recovered.why}); its work may be half done`)
    }
    try {
      if (writes.length > 0) await this.#declare()
      for (const lock of locks) await this.#lock(lock)
    } catch (error) {
      if (!isLockError(error)) throw error
      const status = this.#io.fail(error, 'conflicts' in error ? { granted: false, task: this.#plan.task, conflicts: error.conflicts } : { held: false })
      return { status, how: error.code === 'ELOCKED' ? 'skipped' : 'failed', note: error.message }
    }
    return undefined
  }

  async #declare(): Promise<void> {
    const { task, writes, policy, wait, owner, ttlMs, root } = this.#plan
    const intent = await declareWrites({ task, writes, policy, owner, ttl: ttlMs, pid: process.pid, dir: root, ...(wait !== undefined && { wait }), onConflict: (conflicts) => this.#tellOverlaps(conflicts) })
    this.#intent = intent
    await this.#remember('intent', task, intent.token)
  }

  // A refusal says it itself.
  #tellOverlaps(conflicts: Conflict[]): void {
    if (this.#plan.policy === 'queue' || this.#plan.policy === 'warn') for (const { path, task, owner } of conflicts) this.#io.say(`${path} is being written by ${task ?? owner ?? 'somebody'} as well`)
  }

  async #lock(resource: string): Promise<void> {
    const { wait, owner, ttlMs, root } = this.#plan
    const outer = ownLock(root, resource)
    if (outer) await this.#keep(resource, outer)
    const onEvent = (event: LockEvent) => logLockEvent(root, event)
    const options: AcquireOptions = { owner, ttl: ttlMs, onEvent, ...(wait !== undefined && { wait }), ...(outer && { lockFile: `${outer.lockFile}.inner` }) }
    const lock = await acquireWatching(resource, options)
    this.#locks.push(lock)
    lock.signal.addEventListener('abort', () => void this.#onLoss(lock.token, `the lock of ${lock.file}`))
    await this.#remember('lock', lock.file, lock.token, lock.lockFile)
  }

  // It must not end before what goes on under it.
  async #keep(resource: string, { file, token, lockFile }: { file: string; token: string; lockFile: string }): Promise<void> {
    const outer = { file, token, renew: () => renewLock(resource, token, { lockFile }) }
    const { ttlMs = Infinity } = await outer.renew()
    this.#outer.push(outer)
    this.#everyMs = Math.min(this.#everyMs, ttlMs / 3)
  }

  // While it runs, it is renewed: it does not end by itself.
  async #remember(kind: 'slot' | 'intent' | 'lock', name: string, token: string, lockFile?: string): Promise<void> {
    const { root, session } = this.#plan
    await remember(root, { kind, name, token, until: null, ...(lockFile !== undefined && { lockFile }) }, session).catch((error: Error) => this.#io.warn(`the command cannot end it by itself: ${error.message}`))
  }

  // ---- while it runs ----

  async work(): Promise<Outcome> {
    const { command, root, session, slot, timeoutMs, input } = this.#plan
    const env = { ...process.env, ...this.#plan.env, LOCKPACT_SESSION: session, ...(root !== undefined && { LOCKPACT_DIR: root }), ...(slot !== undefined && { LOCKPACT_SLOT: slot }) }
    this.#timer = setInterval(() => void this.#renew().catch(() => {}), this.#everyMs)
    const ending = await supervise({ command, env, input, timeoutMs, lost: this.#lost.signal, bind: (pids) => this.#bind(pids), confirm: () => this.#confirm() })
    clearInterval(this.#timer)
    return this.#settle(ending)
  }

  async #bind(pids: number[]): Promise<void> {
    for (const pid of pids) {
      await this.#plan.also?.bind(pid)
      await this.#slot?.bind(pid)
      await this.#intent?.bind(pid)
      for (const lock of this.#locks) await lock.bind(pid)
    }
  }

  // Locks renew themselves.
  async #renew(): Promise<void> {
    const { ttlMs, task, slot, owner, also } = this.#plan
    const isLate = performance.now() - this.#renewed > ttlMs
    const attempt = async (held: { token?: string; renew(): Promise<unknown> } | undefined, what: string, by?: string, names?: string[]) => {
      if (!held || this.#isGivenBack(held.token)) return
      await held.renew().catch(async (error: unknown) => {
        if (isLockError(error) && error.code === 'ENOTACQUIRED') await this.#onLoss(held.token, what, by, names)
        else if (isLate) throw error
      })
    }
    if (also) await attempt({ renew: () => also.renew() }, also.what)
    await attempt(this.#slot, `the slot ${slot}`, owner, [`slot:${slot}`])
    await attempt(this.#intent, `what ${task} has declared`, task, this.#intent?.writes)
    for (const outer of this.#outer) await attempt(outer, `the lock of ${outer.file}`)
    this.#renewed = performance.now()
  }

  // After a stop: whatever was lost meanwhile.
  async #confirm(): Promise<void> {
    await this.#renew()
    for (const lock of this.#locks) if (!this.#isGivenBack(lock.token)) await lock.renew()
    this.#lost.signal.throwIfAborted()
  }

  // The command may have given back by itself what it was given.
  // `by`, `names`: as its events name it; that of a lock has been logged.
  async #onLoss(token: string | undefined, what: string, by?: string, names: string[] = []): Promise<void> {
    // Whoever gives back ends first, and forgets then.
    for (let looks = 0; looks < 10 && !this.#isGivenBack(token); looks++) await sleep(10)
    if (this.#isGivenBack(token) || this.#lost.signal.aborted) return
    this.#io.warn(`${what} was lost; the command is being ended`)
    for (const each of names) logEvent(this.#plan.root!, { type: 'lost', what: each, by: by! })
    this.#lost.abort(new LockError('ECOMPROMISED', `${what} was lost`))
  }

  #isGivenBack(token: string | undefined): boolean {
    const { root, session } = this.#plan
    return token !== undefined && isGivenBack(root, token, session)
  }

  // ---- after it ----

  async #settle(ended: Ending): Promise<Outcome> {
    // It may have been lost in the last second.
    const ending: Ending = ended.how === 'exited' && !(await this.#isStillHeld()) ? { how: 'lost' } : ended
    const [status, note] = this.#statusOf(ending)
    if (ending.how === 'timed out') this.#io.warn(`the command ${note}`)
    return { status: await this.#endSlot(status, ending.how === 'exited' && status === 0, note), how: ending.how, note }
  }

  async #endSlot(status: number, isDone: boolean, note: string): Promise<number> {
    const { slot, isExplicit } = this.#plan
    if (slot === undefined || !this.#slot || this.#isGivenBack(this.#slot.token)) return status
    const { token } = this.#slot
    const options = { dir: this.#plan.root, note: isDone ? undefined : note }
    try {
      await (isDone ? (isExplicit ? freeSlot : completeSlot) : failSlot)(slot, token, options)
      this.#slot = undefined
      if (isDone && isExplicit) this.#io.say('nothing was shipped: the command has not said lockpact done')
      return status
    } catch (error) {
      this.#slot = undefined
      // The command has said itself how it ended.
      if (this.#hasEnded(slot, token)) return status
      this.#io.warn((error as Error).message)
      return status !== 0 ? status : isLockError(error) && error.code === 'ENOTACQUIRED' ? EXIT.lost : EXIT.cannotCreate
    }
  }

  #isStillHeld(): Promise<boolean> {
    return this.#confirm().then(
      () => true,
      (error: unknown) => !isLockError(error) || error.code !== 'ECOMPROMISED',
    )
  }

  #statusOf(ending: Ending): [status: number, note: string] {
    switch (ending.how) {
      case 'exited':
        return [ending.code, `exit status ${ending.code}`]
      case 'signalled':
        return [128 + constants.signals[ending.signal], `ended by ${ending.signal}`]
      case 'timed out':
        return [this.#io.conflict, `timed out after ${this.#plan.timeoutMs / 1000} s`]
      case 'lost':
        return [EXIT.lost, 'lost while running']
    }
  }

  #hasEnded(slot: string, token: string): boolean {
    const record = listSlots({ dir: this.#plan.root }).find(({ key }) => key === slot)
    return record?.outcomes.some(({ id, outcome }) => id === idOf(token) && outcome !== 'lost') ?? false
  }

  /** Gives back what is left. */
  async letGo(): Promise<void> {
    const { root, session, slot } = this.#plan
    clearInterval(this.#timer)
    // Not started: nothing was shipped.
    if (this.#slot && !this.#isGivenBack(this.#slot.token)) await freeSlot(slot!, this.#slot.token, { dir: root }).catch(() => {})
    await this.#intent?.release().catch(() => {})
    for (const lock of this.#locks) await lock.release().catch(() => {})
    if (root !== undefined) endSession(root, session)
  }
}
