/*
 * All schedules of a world: breadth first, so the first violation found is one of the shortest.
 *
 * Between two steps of a process every other process may step, a process may crash, and time may pass. States that are the same
 * (files, clocks, where each process is) are explored once, and so are those that differ in the names of two equal processes only (`#add`).
 *
 * Some calls are not worth a step of their own; they are made together with the call before them (`#isLocal` says why that
 * loses nothing), and so is all that is done by a process that is left alone (`#isLeftAlone`). `honest.test.ts` compares the ends
 * of whole worlds with those of a search without all that.
 */
import { sameClock } from '../../lib/core/liveness.js'
import { decode, type Stamp } from '../../lib/core/stamp.js'
import type { FileFacts, Instant, Machine, ProcessFacts, System } from '../../lib/core/system.js'
import { type Answer, type Call, copyOf, EMPTY, end, fileAt, type File, FIRST_PID, LEVELS, levelOf, pathOf, perform, pidOf, type Process, type State, startOf, type Surroundings, systemError, systemOf, textNumber, textOf } from './machine.js'
import { Cast, hex, lockIdOf, machineOf, type More, type Node, type Operation, type Protocol, renamed, type Script, Surprise } from './process.js'

/** Time passes: on all clocks together, or not. */
export interface Jump {
  name: string
  boot: number
  wall: number
  fs: number
}

export interface World {
  name: string
  scripts: Script[]
  /** Texts that lie there at the beginning, with their age, by level. */
  files?: { level: number; text: string; ageMs: number }[]
  machines?: Machine[]
  lags?: number[]
  bystanders?: Surroundings['bystanders']
  jumps: Jump[]
  maxJumps: number
  maxCrashes: number
  /** For this long the lock file that lay there at the beginning must not be removed. */
  keepsMs?: number
  /** That too many guards were left behind is not a violation. */
  towers?: boolean
  /** How it begins: a step of process A, of B, or the first jump (`J`); everything after that is explored. */
  beginning?: string
  /** No process is paused for more than one jump between two calls; searched without the reductions that go by when time is used. */
  brisk?: boolean
  rawIdentities?: boolean
  torn?: boolean
  /** Make every call a step of its own. */
  unreduced?: boolean
}

export interface Found {
  /** What went wrong. */
  what: string
  /** Which actions lead there from where the search begins. */
  schedule: Action[]
  /** From the world's first moment, the `beginning` included. */
  steps: number
  text: string
}

export interface Explored {
  states: number
  steps: number
  quiet: number
  deepest: number
  /** The most files that were left behind in a quiet state. */
  leftovers: number
  complete: boolean
  /** What is in a script, and nobody ever succeeded in it. */
  undone: Operation['do'][]
  found?: Found
}

/** A process's step, its leaving out of an optional operation, its crash; or a jump. */
export type Action = { kind: 'step' | 'skip' | 'crash'; p: number } | { kind: 'jump'; jump: number; /** Which of its last readings of the clock each process makes only after it. */ after: number[] }

/** The boot clock, the wall clock and the file system’s clock when a world begins; what is older has a digit less. */
export const BEGIN = { boot: 10_000_000, wall: 1_700_000_000_000, fs: 1_700_000_000_000 }

type Log = (p: number, node: Node, answer: Answer | undefined) => void

export class Explorer {
  readonly world: World
  readonly cast: Cast
  readonly around: Surroundings
  readonly protocol: Protocol
  readonly #alike: number[]
  readonly #areTwins: boolean
  readonly #tokenBits = new Map<string, number>()
  readonly #stamps = new Map<number, Stamp | undefined>()
  readonly #leases = new Map<string, number>()
  readonly #newcomers = new Map<string, string | undefined>()

  constructor(protocol: Protocol, world: World) {
    this.protocol = protocol
    this.world = world
    const { scripts, files = [] } = world
    const machines = world.machines ?? [...scripts, 0].map((_, p) => machineOf(p, startOf(pidOf(p))))
    this.around = { machines, lags: world.lags ?? machines.map(() => 0), bystanders: world.bystanders ?? new Map(), rawIdentities: world.rawIdentities ?? false, torn: world.torn ?? false }
    this.cast = new Cast(protocol, scripts, machines)
    const look = (p: number) => JSON.stringify([scripts[p]!.operations, scripts[p]!.stays, scripts[p]!.holds, scripts[p]!.watch && [...scripts[p]!.watch.seen], { ...machines[p]!, self: 0 }, this.around.lags[p]])
    this.#alike = scripts.map((_, p) => scripts.findIndex((_, q) => look(q) === look(p)))
    // Nothing tells them apart but their names.
    const told = JSON.stringify([files, look(0)])
    this.#areTwins = scripts.length === 2 && this.#alike[1] === 0 && renamed(told) === told && !world.unreduced && !world.rawIdentities && !world.torn
    for (const [p] of scripts.entries()) this.#tokenBits.set(lockIdOf(p), 1 << p)
  }

  /** The state in which the search begins. */
  begin(): State {
    return this.#beginning().state
  }

  #beginning(): { state: State; schedule: Action[] } {
    const schedule: Action[] = []
    let state = this.#start()
    for (const letter of this.world.beginning ?? '') {
      const action: Action = letter === 'J' ? { kind: 'jump', jump: 0, after: state.processes.map(({ readings }) => readings.length) } : { kind: 'step', p: 'ABC'.indexOf(letter) }
      schedule.push(action)
      state = this.apply(state, action)
    }
    return { state, schedule }
  }

  #start(log?: Log): State {
    const { scripts, files = [] } = this.world
    const state: State = {
      ...BEGIN,
      jumps: 0,
      crashes: 0,
      jumped: false,
      ended: 0,
      files: [],
      links: Array.from({ length: LEVELS }, () => -1),
      processes: scripts.map((_, p) => ({ status: 'running', node: this.cast.begin(p), acted: false, halfway: false, astray: false, paused: false, fds: [], readings: [] })),
    }
    for (const { level, text, ageMs } of files) {
      state.links[level] = state.files.length
      state.files.push({ text: textNumber(text), mtime: BEGIN.fs - ageMs, author: -1 })
    }
    for (const p of scripts.keys()) this.#goOn(state, p, log)
    return state
  }

  actions(state: State): Action[] {
    return [...this.moves(state), ...this.jumps(state)]
  }

  /** What the processes may do, and their deaths. */
  moves(state: State): Action[] {
    const list: Action[] = []
    const { maxCrashes, scripts, unreduced } = this.world
    const awake = this.#awake(state)
    const isAtEnd = (p: number) => state.processes[p]!.node!.call!.do === 'exit'
    const isLast = (p: number) => isAlone(state, awake, p)
    // A death is seen by who looks for it, and by nobody else; so it comes just before that, or when nobody does anything any more.
    const mayDie = (p: number) => !this.#reduces || isLast(p) || awake.some((q) => this.#looksFor(state, q, p))
    const isFree = (p: number) => !state.jumped || this.#usesTime(state, p) || (isLast(p) && isAtEnd(p))
    for (const p of awake) {
      const process = state.processes[p]!
      const { node } = process
      const fresh = this.#isFresh(process)
      // Processes that are alike and have done nothing yet: which of them starts first is only a name (states of twins are one anyway, `#add`).
      if (fresh && !unreduced && !this.#areTwins && state.processes.some((other, q) => q < p && this.#alike[q] === this.#alike[p] && this.#isFresh(other))) continue
      if (isFree(p) && (!isAtEnd(p) || mayDie(p))) list.push({ kind: 'step', p })
      if (!state.jumped && !process.acted && node!.root.operation?.optional) list.push({ kind: 'skip', p })
      const isLater = state.crashes + 1 < maxCrashes || (mayDie(p) && (!state.jumped || isLast(p)))
      if (state.crashes < maxCrashes && (!fresh || unreduced || scripts[p]!.holds) && !isAtEnd(p) && !process.halfway && isLater) list.push({ kind: 'crash', p })
    }
    return list
  }

  // Of all steps only some use the time (`#usesTime`), the others would do the same after a jump as before it; so a jump comes just before
  // one of those, or before a reading of the clock, or when nobody does anything any more.
  jumps(state: State): Action[] {
    const { jumps, maxJumps } = this.world
    const awake = this.#awake(state)
    if (awake.length === 0 || state.jumps === maxJumps || state.processes.some(({ halfway }) => halfway)) return []
    const isOfUse = !this.#reduces || state.jumps + 1 < maxJumps || awake.some((p) => this.#usesTime(state, p) || isAlone(state, awake, p))
    const choices = readingsAfter(state).filter((after) => isOfUse || this.#takesBack(state, after))
    return [...jumps.keys()].flatMap((jump) => choices.map((after): Action => ({ kind: 'jump', jump, after })))
  }

  #isAwake({ processes }: State, p: number): boolean {
    const { status, node } = processes[p]!
    return status === 'running' && !(node!.call!.do === 'exit' && this.world.scripts[p]!.stays)
  }

  #awake(state: State): number[] {
    const awake: number[] = []
    for (const p of state.processes.keys()) if (this.#isAwake(state, p)) awake.push(p)
    return awake
  }

  get #reduces(): boolean {
    return !this.world.unreduced && !this.world.brisk
  }

  #looksFor(state: State, q: number, p: number): boolean {
    const call = state.processes[q]!.node!.call!
    return call.do === 'process' && call.pid === pidOf(p)
  }

  #usesTime(state: State, p: number): boolean {
    const call = state.processes[p]!.node!.call!
    return call.do === 'write' || (call.do === 'create' && !fileAt(state, levelOf(call.path)))
  }

  /** Whether a process makes a reading of the clock only after the jump. */
  #takesBack({ processes }: State, after: number[]): boolean {
    return processes.some(({ readings }, p) => after[p]! < readings.length)
  }

  #isFresh({ status, node, acted }: Process): boolean {
    return status === 'running' && !acted && node!.root.luggage.next === 0 && node!.root.luggage.tries === 0
  }

  /** The state after an action; throws `Violated` when a process does what it must not. */
  apply(before: State, action: Action, log?: Log): State {
    const isDeath = action.kind === 'crash' || (action.kind === 'step' && before.processes[action.p]!.node!.call!.do === 'exit')
    const state = copyOf(before, action.kind === 'jump' || isDeath ? undefined : action.p)
    if (action.kind === 'jump') {
      const { boot, wall, fs } = this.world.jumps[action.jump]!
      state.boot += boot
      state.wall += wall
      state.fs += fs
      state.jumps++
      state.jumped = this.#reduces && !this.#takesBack(before, action.after)
      for (const [p, process] of state.processes.entries()) {
        const reading = process.readings[action.after[p]!]
        if (reading) Object.assign(process, reading)
        process.readings = []
        process.paused = this.world.brisk === true && process.status === 'running' && !this.#isFresh(process) && process.node!.call!.do !== 'exit'
      }
      for (const p of state.processes.keys()) this.#goOn(state, p, log)
      return state
    }
    const { p } = action
    const process = state.processes[p]!
    state.jumped = false
    if (isDeath) {
      end(state, p, action.kind === 'crash' ? 'crashed' : 'ended')
      if (action.kind === 'crash') state.crashes++
      // What the others look at next may not change any more.
      for (const q of state.processes.keys()) this.#goOn(state, q, log)
    } else if (action.kind === 'skip') {
      const { root } = process.node!
      process.node = this.cast.skip(process.node!)
      process.readings = process.readings.filter(({ node }) => node.root !== root)
    } else {
      this.#step(state, p, log)
    }
    this.#goOn(state, p, log)
    return state
  }

  /** The state after an action, and what is wrong with it, or went wrong on the way: then there may be no state. */
  attempt(before: State, action: Action): { after?: State; wrong: string | undefined } {
    try {
      const after = this.apply(before, action)
      return { after, wrong: this.check(after) }
    } catch (error) {
      if (!(error instanceof Violated || error instanceof Surprise)) throw error
      return { wrong: `${error.message}${error.cause instanceof Error ? `: ${error.cause.stack}` : ''}` }
    }
  }

  #step(state: State, p: number, log?: Log): void {
    const node = state.processes[p]!.node!
    const answer = this.#make(state, p, node, log)
    if (answer) move(state.processes[p]!, this.cast.follow(node, answer, (each) => this.#local(state, p, each, log)))
  }

  // Makes a call that others may see. `undefined`: it is not over yet.
  #make(state: State, p: number, node: Node, log?: Log): Answer | undefined {
    const process = state.processes[p]!
    const call = node.call!
    const { operation } = node.root
    state.jumped = false
    process.acted = true
    process.paused = false
    process.readings = []
    if (operation?.do === 'release') state.ended |= this.#tokenBits.get(lockIdOf(p)) ?? 0
    if ((operation?.do === 'break' || operation?.do === 'rm') && call.do === 'unlink' && levelOf(call.path) === 0) state.ended |= this.#broken(fileAt(state, 0))
    try {
      if (call.do === 'write') this.#checkWrite(state, p, call.fd)
      if (call.do === 'act') this.#checkAct(state, p)
    } catch (error) {
      log?.(p, node, undefined)
      throw error
    }
    if (call.do === 'write') process.astray = !state.links.includes(process.fds[call.fd]!)
    const answer = perform(state, p, call, this.around)
    log?.(p, node, answer)
    return answer
  }

  // A person breaks whatever is there, also what has no stamp yet.
  #broken(file: File | undefined): number {
    return !file ? 0 : file.author >= 0 ? 1 << file.author : (this.#tokenBits.get(this.#idAt(file) ?? '') ?? 0)
  }

  #goOn(state: State, p: number, log?: Log): void {
    const process = state.processes[p]!
    if (process.status !== 'running' || process.halfway) return
    const more: More = (node) => this.#local(state, p, node, log)
    for (let answer = more(process.node!); answer; answer = more(process.node!)) move(process, this.cast.follow(process.node!, answer, more))
  }

  // The answer to a local call, which is made.
  #local(state: State, p: number, node: Node, log?: Log): Answer | undefined {
    const process = state.processes[p]!
    move(process, node)
    if (this.#isLeftAlone(state, p)) {
      if (node.call!.do === 'exit' || (!process.acted && node.root.operation?.optional)) return undefined
      const wrong = this.check(state)
      if (wrong) throw new Violated(wrong)
      return this.#make(state, p, node, log) ?? this.#make(state, p, node, log)
    }
    if (!this.#isLocal(state, p, node.call!)) return undefined
    if (node.call!.do === 'clock' && state.jumps < this.world.maxJumps) process.readings.push({ node, acted: process.acted })
    const answer = perform(state, p, node.call!, this.around)
    log?.(p, node, answer)
    return answer
  }

  // Nobody comes between its calls, and nothing can happen to it any more: there is one way on.
  #isLeftAlone(state: State, p: number): boolean {
    const { maxJumps, maxCrashes, scripts, unreduced } = this.world
    if (unreduced || scripts.length < 2 || state.jumps < maxJumps || state.crashes < maxCrashes) return false
    for (const q of scripts.keys()) if (q !== p && this.#isAwake(state, q)) return false
    return true
  }

  // Local: nothing that anybody may do before it could change the answer, and nobody can see that it was made.
  #isLocal(state: State, p: number, call: Call): boolean {
    if (this.world.unreduced) return false
    switch (call.do) {
      case 'clock':
        return true // only a jump changes it: each jump is tried before and after each of these readings (`readingsAfter`)
      case 'process': {
        const other = state.processes[call.pid - FIRST_PID]
        return other === undefined || other === state.processes[p] || other.status !== 'running' // the dead stay dead
      }
      case 'close':
        if (state.processes[p]!.readings.length > 0) return false // who makes a reading only after a jump needs the descriptor again (`apply`)
        return true // seen by nobody: an inode number that is free earlier is given out earlier, which only makes it harder
      case 'stat': {
        const file = state.files[state.processes[p]!.fds[call.fd]!]!
        // A write would not move a time that is now, when the clocks stand still from here on.
        if (state.jumps >= this.world.maxJumps && file.mtime === state.fs) return true
        return this.#isUnchanging(state, p, file)
      }
      case 'read':
        return this.#isUnchanging(state, p, state.files[state.processes[p]!.fds[call.fd]!]!)
      default:
        return false
    }
  }

  // Only its creator writes to a file without a stamp, and only a holder of its token to one with a stamp: `#checkWrite` checks that.
  #isUnchanging(state: State, p: number, file: File): boolean {
    if (file.author >= 0) return file.author === p
    const id = this.#idAt(file)
    return !state.processes.some((other, q) => q !== p && other.status === 'running' && (other.halfway || this.#mayWrite(other, q, id)))
  }

  #mayWrite(process: Process, q: number, id: string | undefined): boolean {
    if (id === undefined) return false
    const { next } = process.node!.root.luggage
    return this.world.scripts[q]!.operations.some((operation, index) => index >= next && writes(operation, q, id))
  }

  #checkWrite(state: State, p: number, fd: number): void {
    const process = state.processes[p]!
    const file = state.files[process.fds[fd]!]!
    if (file.author === p || process.halfway) return
    const id = this.#idAt(file)
    if (file.author >= 0 || !this.#mayWrite(process, p, id)) throw new Violated(`process ${name(p)} writes into a file that is not its own`)
  }

  #checkAct(state: State, p: number): void {
    const [file, id] = [fileAt(state, 0), lockIdOf(p)]
    if (this.#idAt(file) !== id) throw new Violated(`${name(p)} acts, and its lock file is ${file ? 'not its own' : 'gone'}`)
    const other = state.processes.findIndex((_, q) => this.#believes(state, q) && this.#heldBy(state, q)!.id !== id)
    if (other >= 0) throw new Violated(`${name(p)} acts while ${name(other)} is inside its lease`)
  }

  #stampAt(file: File | undefined): Stamp | undefined {
    if (!file || file.text === EMPTY) return undefined
    if (!this.#stamps.has(file.text)) {
      const decoded = decode(textOf(file.text))
      this.#stamps.set(file.text, decoded.kind === 'stamp' ? decoded.stamp : undefined)
    }
    return this.#stamps.get(file.text)
  }

  #idAt(file: File | undefined): string | undefined {
    return this.#stampAt(file)?.id
  }

  // ---- what must hold ----

  /** What is wrong with this state. */
  check(state: State): string | undefined {
    const { keepsMs, files } = this.world
    // The server's clock may be off by a minute, not more.
    const isPromised = state.fs - BEGIN.fs - (state.boot - BEGIN.boot) <= 60_000
    const isKept = keepsMs === Infinity || (isPromised && keepsMs !== undefined && state.boot - BEGIN.boot < keepsMs)
    if (isKept && fileAt(state, 0)?.text !== textNumber(files![0]!.text)) return 'what nobody may take was taken'
    return this.#checkLeases(state)
  }

  #checkLeases(state: State): string | undefined {
    const believers: number[] = []
    for (const p of state.processes.keys()) if (this.#believes(state, p)) believers.push(p)
    if (believers.length === 0) return undefined
    const ids = new Set(believers.map((p) => this.#heldBy(state, p)!.id))
    if (ids.size > 1) return `two holders inside their leases: ${believers.map(name).join(' and ')}`
    const file = fileAt(state, 0)
    if (state.processes.some(({ halfway }) => halfway)) return undefined
    const stamp = this.#stampAt(file)
    if (stamp?.id !== [...ids][0]) return `${name(believers[0]!)} is inside its lease and its lock file is ${file ? 'not its own' : 'gone'}`
    const deceived = believers.find((p) => sameClock(this.around.machines[p]!, stamp!) && stamp!.bootMs! + this.around.machines[p]!.granularityMs < this.#heldBy(state, p)!.bootMs!)
    return deceived === undefined ? undefined : `the lock file of ${name(deceived)} says that its lease is over earlier than it believes`
  }

  #heldBy(state: State, p: number): Stamp | undefined {
    return state.processes[p]!.node?.root.luggage.held
  }

  #believes(state: State, p: number): boolean {
    const process = state.processes[p]!
    const held = this.#heldBy(state, p)
    if (process.status !== 'running' || !held) return false
    if (state.ended & (this.#tokenBits.get(held.id!) ?? 0)) return false
    return this.#leaseLeft(state, p, held) > 0
  }

  #leaseLeft(state: State, p: number, stamp: Stamp): number {
    const key = `${p} ${state.boot} ${stamp.bootMs} ${stamp.ttlMs}`
    let left = this.#leases.get(key)
    if (left === undefined) {
      const boot = state.boot - this.around.lags[p]!
      left = this.protocol.leaseLeft({ machine: () => this.around.machines[p]!, clock: () => ({ boot, wall: state.wall }) } as System, stamp)
      this.#leases.set(key, left)
    }
    return left
  }

  isQuiet(state: State): boolean {
    return this.#awake(state).length === 0
  }

  /** What a newcomer meets in a quiet state, and when the living have cleaned up: it must get in, at once unless a living or unknown holder may be there. */
  checkQuiet(quiet: State): string | undefined {
    const cleaned = copyOf(quiet)
    const wrong = this.#leftBehind(cleaned)
    if (wrong) return wrong
    const lock = fileAt(cleaned, 0)
    if (this.#patience(cleaned) === Infinity && !(lock && decode(textOf(lock.text)).kind === 'foreign')) return 'nobody will ever get in'
    return this.#greet(quiet) ?? this.#greet(cleaned)
  }

  #greet(state: State): string | undefined {
    const key = JSON.stringify([state.boot, state.wall, state.fs, state.links.map((_, level) => fileAt(state, level)), state.processes.map(({ status }) => status)])
    if (!this.#newcomers.has(key)) this.#newcomers.set(key, this.#newcomer(state))
    return this.#newcomers.get(key)
  }

  // Who lives goes on cleaning up until nothing of it is left; the dead leave little.
  #leftBehind(state: State): string | undefined {
    const living = [...state.processes.keys()].filter((p) => state.processes[p]!.status === 'running')
    const contexts = living.map((p) => ({ system: this.#direct(state, p), disowned: new Map(state.processes[p]!.node!.root.luggage.disowned) }))
    const watches = living.map(() => this.protocol.newWatch())
    // They look twice within a second, so that they watch; half way there passes what a clock may have been set back by.
    for (let round = 0; round < 40 && contexts.some(({ disowned }) => disowned.size > 0); round++) {
      for (const [index, context] of contexts.entries()) this.protocol.cleanUp(context, watches[index]!)
      pass(state, round === 20 ? this.#laterMs : POLL_MS)
    }
    const files = state.links.map((_, level) => this.#stampAt(fileAt(state, level)))
    const owner = living.find((p) => files.some((stamp) => stamp?.processes?.[0]?.pid === pidOf(p) && stamp.id !== this.#heldBy(state, p)?.id))
    if (owner !== undefined) return `${name(owner)} lives, and leaves something behind`
    // A lock whose process has ended while a guard was busy, and a guard for each that died, or was late.
    const most = (this.world.files?.length ?? 0) + 1 + state.crashes + state.jumps
    return this.world.towers || state.links.filter((number) => number >= 0).length <= most ? undefined : 'too much was left behind'
  }

  #newcomer(quiet: State): string | undefined {
    const patience = this.#patience(quiet)
    if (patience === Infinity) return undefined
    const state = copyOf(quiet)
    const p = state.processes.length
    state.processes.push({ status: 'running', node: undefined, acted: false, halfway: false, astray: false, paused: false, fds: [], readings: [] })
    const system = this.#direct(state, p)
    const context = { system, disowned: new Map() }
    const watch = this.protocol.newWatch()
    const request = { id: lockIdOf(p), adopt: undefined, fields: { owner: undefined, reason: undefined, processes: undefined, ttlMs: 60_000, renews: true } }
    // Between its first looks and its last ones it need not look.
    for (let waited = 0; ; waited += pass(state, waited === 10_000 && patience > 30_000 ? patience - 20_000 : POLL_MS)) {
      // As `obtain` does.
      const result = (waited > 0 && this.protocol.wouldRefuse(context, pathOf(0), request, watch)) || this.protocol.acquire(context, pathOf(0), request, watch)
      if (result.done) break
      if (waited >= patience && this.world.towers && result.why.startsWith('too many guards')) return undefined
      if (waited >= patience) return `a newcomer does not get in${waited > 0 ? ` within ${waited} ms` : ' at once'}: ${result.verdict}, ${result.why} (${result.path.slice(pathOf(0).length) || 'the lock'})`
    }
    const robbed = this.#checkLeases(state)
    if (robbed) return `a newcomer gets in, and ${robbed}`
    for (let waited = 0; ; waited += pass(state, POLL_MS)) {
      const result = this.protocol.release(context, pathOf(0), lockIdOf(p), watch)
      if (result.done && result.released) break
      if (waited >= patience && this.world.towers && !result.done && result.why.startsWith('too many guards')) return undefined
      if (waited >= patience || result.done) return 'a newcomer got in and cannot release'
    }
    // Whoever comes much later sweeps what was left unstamped, and then what lies below it.
    const mayGo = (level: number) => patienceWith(fileAt(quiet, level), level, quiet, this.around) <= 6_000
    pass(state, this.#laterMs)
    for (let level = LEVELS - 2; level >= 0; level--) if (mayGo(level)) this.protocol.sweep(context, pathOf(level), level, this.protocol.newWatch())
    const left = this.world.towers ? -1 : state.links.findIndex((number, level) => number >= 0 && mayGo(level))
    return left >= 0 ? `sweeping leaves ${pathOf(left)}` : undefined
  }

  /** When all that is unstamped is old, though each jump has set a clock back by an hour. */
  get #laterMs(): number {
    return this.world.maxJumps * 3_600_000 + 700_000
  }

  #patience(state: State): number {
    let sum = 0
    for (let level = 0; level < LEVELS; level++) sum += patienceWith(fileAt(state, level), level, state, this.around)
    return sum
  }

  #direct(state: State, p: number): System {
    const ask = (call: Call): unknown => {
      const { error, value } = (perform(state, p, call, this.around) ?? perform(state, p, call, this.around))!
      if (error !== undefined) throw systemError(error)
      return value
    }
    let tokens = 0xdd000
    return systemOf(ask, () => this.around.machines[p]!, () => hex(tokens++, 16))
  }

  // ---- searching ----

  explore(limit = 5_000_000): Explored {
    const result = this.#search(limit)
    const operations = this.world.scripts.flatMap((script) => script.operations.map((operation) => operation.do))
    return { ...result, undone: [...new Set(operations)].filter((each) => !this.cast.done.has(each)) }
  }

  #search(limit: number): Omit<Explored, 'undone'> {
    const seen = new Seen()
    const first = this.begin()
    // How each state was reached: from which other, and by which of its actions.
    const from = new Numbers()
    const result: Omit<Explored, 'undone'> = { states: 1, steps: 0, quiet: 0, deepest: 0, leftovers: 0, complete: true }
    const report = (index: number, last: Action | undefined, what: string) => {
      const path: number[] = []
      for (let at = index; at > 0; at = from.get(2 * at)) path.unshift(from.get(2 * at + 1))
      const schedule: Action[] = []
      let state = this.begin()
      for (const number of path) {
        const action = this.actions(state)[number]!
        schedule.push(action)
        state = this.apply(state, action)
      }
      if (last) schedule.push(last)
      return { what, schedule, steps: this.#beginning().schedule.length + schedule.length, text: this.print(schedule, what) }
    }
    this.#add(seen, first)
    from.push(-1, -1)
    let layer: [number, State][] = [[0, first]]
    for (; layer.length > 0; result.deepest++) {
      const next: typeof layer = []
      for (const [index, state] of layer) {
        if (this.isQuiet(state)) {
          result.quiet++
          result.leftovers = Math.max(result.leftovers, state.links.filter((number) => number >= 0).length)
          const what = this.checkQuiet(state)
          if (what) return { ...result, found: report(index, undefined, what) }
        }
        for (const [number, action] of this.actions(state).entries()) {
          result.steps++
          const { after, wrong } = this.attempt(state, action)
          if (wrong) return { ...result, found: report(index, action, wrong) }
          if (!this.#add(seen, after!)) continue
          from.push(index, number)
          next.push([result.states++, after!])
        }
        if (result.states > limit) {
          result.complete = false
          return result
        }
      }
      layer = next
    }
    return result
  }

  // Two that are alike go on alike when they change places: a state and the one with A and B changed over are explored once.
  #add(seen: Seen, state: State): boolean {
    const key = encode(state, this.world.rawIdentities)
    return this.#areTwins ? seen.add(key, encode(state, false, this.cast)) : seen.add(key)
  }

  /** A schedule, one column per process. */
  print(schedule: Action[], what: string): string {
    const count = this.world.scripts.length
    const width = Math.max(34, Math.floor(150 / count))
    const lines: string[] = []
    const put = (p: number, text: string) => lines.push(`${' '.repeat(p * width)}${text}`.trimEnd())
    lines.push(`world: ${this.world.name}`, this.world.scripts.map(({ operations }, p) => `${name(p)}: ${operations.map(({ do: verb }) => verb).join(', ')}`.padEnd(width)).join(''))
    // What is local is shown with the step behind it; readings of the clock that come after a jump are shown after it.
    const said: string[][] = this.world.scripts.map(() => [])
    const marks: number[][] = this.world.scripts.map(() => [])
    const log: Log = (p, { call, root }, answer) => {
      if (call!.do === 'clock') marks[p]!.push(said[p]!.length)
      said[p]!.push(call!.do === 'close' ? '' : `${root.operation?.do ?? ''}: ${show(call!, answer)}`)
    }
    const tell = (p: number, count = said[p]!.length) => {
      const calls = said[p]!.splice(0, count).filter((call) => call !== '')
      const verb = (call: string | undefined) => call?.slice(0, call.indexOf(': ') + 2)
      const text = calls.map((call, at) => (verb(call) === verb(calls[at - 1]) ? call.slice(verb(call)!.length) : call)).join('; ')
      if (calls.length > 0) for (const line of wrap(text, width - 2)) put(p, line)
      marks[p] = marks[p]!.map((mark) => mark - count).filter((mark) => mark >= 0)
    }
    let state = this.#start(log)
    const go = (action: Action) => {
      try {
        state = this.apply(state, action, log)
      } catch (error) {
        if (!(error instanceof Violated || error instanceof Surprise)) throw error
      }
    }
    for (const action of [...this.#beginning().schedule, ...schedule]) {
      if (action.kind === 'jump') {
        for (const p of said.keys()) {
          tell(p, marks[p]![action.after[p]!])
          said[p] = []
          marks[p] = []
        }
        lines.push(`---- ${this.world.jumps[action.jump]!.name} ----`)
        go(action)
        continue
      }
      const { p, kind } = action
      const ends = state.processes[p]!.node!.call!.do === 'exit'
      if (kind !== 'step' || ends) {
        tell(p)
        put(p, kind === 'crash' ? '†  crashes' : kind === 'skip' ? `(leaves out ${state.processes[p]!.node!.root.operation!.do})` : 'exits')
        go(action)
        continue
      }
      const before = said[p]!.length
      marks[p] = []
      go(action)
      tell(p, before + 1)
    }
    for (const p of said.keys()) tell(p)
    lines.push(`=> ${what}`)
    return lines.join('\n')
  }
}

// Whether the others have done what they do.
function isAlone({ processes }: State, awake: number[], p: number): boolean {
  return awake.every((q) => q === p || processes[q]!.node!.call!.do === 'exit')
}

// A reading of the clock is independent of everything but a jump. So it is made at once, and a jump may still come before it:
// every combination of readings that the processes, since their last steps, make only after the jump.
function readingsAfter({ processes }: State): number[][] {
  let choices: number[][] = [[]]
  for (const { readings, paused } of processes) {
    const from = paused ? 1 : 0 // not a second time before its next step (`brisk`)
    choices = choices.flatMap((choice) => Array.from({ length: readings.length + 1 - from }, (_, index) => [...choice, index + from]))
  }
  return choices
}

function move(process: Process, node: Node): void {
  const [{ root }, from] = [node, process.node!.root]
  process.node = node
  if (root === from) return
  // Once a file has lost its name, it does not get it back: a lease would begin anew that nobody respects.
  const isRenewed = process.astray && from.operation?.do !== 'acquire' && root.luggage.held && JSON.stringify(from.luggage.held) !== JSON.stringify(root.luggage.held)
  if (isRenewed) throw new Violated(`${name(root.p)} has renewed a lock that was gone when it wrote`)
  process.acted = false
  process.astray = false
}

export class Violated extends Error {}

const POLL_MS = 500

/** Time passes: `ms`, which it gives. */
function pass(state: State, ms: number): number {
  state.boot += ms
  state.wall += ms
  state.fs += ms
  return ms
}
const name = (p: number) => 'ABCDEFGH'[p]!

function writes(operation: Operation, q: number, id: string): boolean {
  if (operation.do === 'renewShared') return (operation.id ?? lockIdOf(q)) === id
  return (operation.do === 'renew' || operation.do === 'bind') && lockIdOf(q) === id
}

// How long a newcomer may have to wait for what lies there: for the dead, not at all.
function patienceWith(file: File | undefined, level: number, { processes, fs, wall, boot: now }: State, { bystanders, machines }: Surroundings): number {
  if (!file) return 0
  const decoded = decode(textOf(file.text))
  if (decoded.kind === 'foreign') return Infinity
  if (decoded.kind === 'unstamped') return 5_000 + 2 * POLL_MS
  const { boot, pidns, processes: stamped = [], ttlMs, renews, bootMs } = decoded.stamp
  const here = machines.at(-1)!
  const inSight = boot === here.boot && pidns === here.pidns && stamped.length > 0
  const alive = inSight && stamped.some(({ pid, start }) => (processes[pid - FIRST_PID]?.status === 'running' || bystanders.has(pid)) && start === startOf(pid))
  if (inSight && !alive) return 0
  if (level === 0 && ttlMs !== undefined && bootMs !== undefined && sameClock(here, decoded.stamp)) {
    const left = bootMs + ttlMs - now
    // Who lives and does not renew as it should is watched.
    if (alive && renews) return Math.max(0, left) + 5_000 + 2 * POLL_MS
    return left < -here.granularityMs ? 0 : Math.max(0, left) + 2 * POLL_MS
  }
  // As long as it does not know the file system's clock, it goes by the wall clock.
  const setBack = Math.max(0, file.mtime - Math.min(fs, wall))
  if (level > 0) return alive ? Infinity : setBack + 60_000 + 2 * POLL_MS
  return ttlMs === undefined ? Infinity : setBack + ttlMs + 60_000 + 5_000 + 2 * POLL_MS
}

function show(call: Call, answer: Answer | undefined): string {
  const path = 'path' in call ? call.path.slice(pathOf(0).length).replaceAll('.guard', ' guard') || ' lock' : ''
  const what = call.do === 'process' ? ` ${call.pid}` : 'fd' in call ? ` ${call.fd}` : path
  const text = call.do === 'write' ? call.text : call.do === 'read' ? String(answer?.value) : undefined
  const told = text !== undefined ? brief(text) : !answer ? '' : answer.error ?? tellValue(call, answer.value)
  return `${call.do}${what}${told && ` -> ${told}`}`
}

function tellValue(call: Call, value: unknown): string {
  switch (call.do) {
    case 'process':
      return (value as ProcessFacts).exists ? 'alive' : 'dead'
    case 'clock':
      return `+${(value as Instant).boot - BEGIN.boot}`
    case 'stat':
    case 'lstat':
      return value === undefined ? 'nothing' : `${(value as FileFacts).identity} of ${(value as FileFacts).mtimeMs - BEGIN.fs}`
    default:
      return ''
  }
}

function wrap(text: string, width: number): string[] {
  const lines = ['']
  for (const word of text.split(/(?<=; )/)) {
    if (lines.at(-1)!.length + word.length > width && lines.at(-1) !== '') lines.push('    ')
    lines[lines.length - 1] += word
  }
  return lines
}

function brief(text: string): string {
  const decoded = decode(text)
  if (decoded.kind !== 'stamp') return decoded.kind
  const { id, processes, bootMs, boot } = decoded.stamp
  return `${id?.replace(/^0+/, '') ?? 'no id'} of ${processes?.map(({ pid }) => (pid >= FIRST_PID && pid < FIRST_PID + 8 ? name(pid - FIRST_PID) : pid)).join('+') ?? '?'}${boot === 'boot-1' ? '' : ' elsewhere'}${bootMs === undefined ? '' : ` @${bootMs - BEGIN.boot}`}`
}

// ---- sets of states ----

/** A state as numbers: the same for two states that differ only in the numbers of files. `twins`: with A and B changed over. */
function encode(state: State, raw = false, twins?: Cast): Int32Array {
  const into = twins ? scratches[1] : scratches[0]
  let length = 0
  let known = 0
  const add = (part: number) => (into[length++] = part)
  const addTime = (time: number) => {
    add(Math.floor(time / 65536))
    add(time % 65536)
  }
  order.fill(-1, 0, state.files.length)
  const put = (number: number) => {
    if (number < 0) return add(-1)
    if (order[number]! >= 0) return add(order[number]!)
    order[number] = known++
    if (raw) add(number)
    const { text, mtime, author } = state.files[number]!
    add(-2)
    add(twins ? renamedNumber(text) : text)
    addTime(mtime)
    return add(twins && author >= 0 ? 1 - author : author)
  }
  const idOf = (node: Node) => (twins ? twins.twinOf(node) : node).id
  const putProcess = ({ status, node, acted, halfway, astray, paused, fds, readings }: Process) => {
    add(status === 'running' ? idOf(node!) : status === 'ended' ? -1 : -2)
    add((acted ? 1 : 0) + (halfway ? 2 : 0) + (paused ? 4 : 0) + (astray ? 8 : 0) + 16 * fds.length)
    for (const number of fds) put(number)
    for (const reading of readings) add(idOf(reading.node))
  }
  add(state.boot)
  addTime(state.wall)
  addTime(state.fs)
  add(state.jumps + 16 * state.crashes + (state.jumped ? 256 : 0))
  add(twins ? ((state.ended & 1) << 1) | (state.ended >> 1) : state.ended)
  for (const number of state.links) put(number)
  if (twins) for (let p = 1; p >= 0; p--) putProcess(state.processes[p]!)
  else for (const process of state.processes) putProcess(process)
  if (length > into.length) throw new Error('a state is longer than what it is written into')
  return into.subarray(0, length)
}

const renamedNumbers: number[] = []
const renamedNumber = (text: number) => (renamedNumbers[text] ??= textNumber(renamed(textOf(text))))

const scratches = [new Int32Array(1024), new Int32Array(1024)] as const
const order = new Int32Array(64)

/** A long list, without an object for each. */
class Numbers {
  #size = 0
  #list = new Int32Array(0x10000)

  push(...numbers: number[]): void {
    if (this.#size + numbers.length > this.#list.length) {
      const old = this.#list
      this.#list = new Int32Array(2 * old.length)
      this.#list.set(old)
    }
    for (const number of numbers) this.#list[this.#size++] = number
  }

  get(at: number): number {
    return this.#list[at]!
  }
}

/** States that have been seen, as 64 bits each: a million states share one by chance once in tens of millions of searches. */
class Seen {
  #size = 0
  #mask = 0xffff
  #table = new Int32Array(2 * (this.#mask + 1))

  /** False when it was there, by this key or by the other one that it has. */
  add(key: Int32Array, other?: Int32Array): boolean {
    let [a, b] = hashOf(key)
    if (other) {
      const [c, d] = hashOf(other)
      if (c < a || (c === a && d < b)) [a, b] = [c, d]
    }
    if (!this.#put(a, b)) return false
    if (++this.#size * 2 > this.#mask) this.#grow()
    return true
  }

  #put(a: number, b: number): boolean {
    const table = this.#table
    for (let at = a & this.#mask; ; at = (at + 1) & this.#mask) {
      if (table[2 * at + 1] === 0) {
        table[2 * at] = a
        table[2 * at + 1] = b
        return true
      }
      if (table[2 * at] === a && table[2 * at + 1] === b) return false
    }
  }

  #grow(): void {
    const old = this.#table
    this.#mask = 2 * this.#mask + 1
    this.#table = new Int32Array(2 * (this.#mask + 1))
    for (let at = 0; at < old.length; at += 2) if (old[at + 1] !== 0) this.#put(old[at]!, old[at + 1]!)
  }
}

function hashOf(key: Int32Array): [number, number] {
  let a = 0x811c9dc5
  let b = 0x2545f491
  for (const part of key) {
    a = Math.imul(a ^ part, 0x01000193)
    a ^= a >>> 15
    b = Math.imul(b ^ part, 0x5bd1e995) + 0x9e3779b9
    b ^= b >>> 13
  }
  a = Math.imul(a ^ (b >>> 7), 0x85ebca6b) | 0
  return [a, (Math.imul(b ^ (a >>> 11), 0xc2b2ae35) | 0) || 1]
}
