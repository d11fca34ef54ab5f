/*
 * Processes that run the shipped protocol and can be suspended at every call.
 *
 * A process is run again from the start of its operation, with the answers that it got, until it asks for one that it has not
 * got: there `System` throws, and throws the same at every further call, so that neither `finally` nor `catch` can do anything;
 * what the operation then returns or throws is not looked at. Where a process is, is a node: the state that it had between two
 * operations, and the answers since. Nodes are kept, so that nothing is run twice; and a run goes on while `More` has answers.
 */
import type * as protocolModule from '../../lib/core/protocol.js'
import type { Context, Request, Watch } from '../../lib/core/protocol.js'
import { systemCode } from '../../lib/core/error.js'
import type { Stamp } from '../../lib/core/stamp.js'
import type { Machine, ProcessFacts, System } from '../../lib/core/system.js'
import { alive, type Answer, type Call, LOCK, looked, pathOf, pidOf, read, startOf, systemError, systemOf, textNumber } from './machine.js'

export type Protocol = typeof protocolModule

/** One operation of a script. `optional`: the process may leave it out. */
export type Operation = { optional?: boolean } & (
  | { do: 'acquire'; ttlMs?: number; renews?: boolean; adopt?: string; tries?: number }
  /** As `Holding` does: once it was not done, it is retried by `confirm`. */
  | { do: 'renew'; tries?: number }
  /** As `Holding` does at every tick; `trusting`: also what it may have written itself. */
  | { do: 'look'; trusting?: boolean }
  /** By token, as `renewLock` does: the own lock, or one that another process took. */
  | { do: 'renewShared'; id?: string; tries?: number }
  /** What cannot be undone is a step of its own, the call `act`. */
  | { do: 'commit'; tries?: number }
  | { do: 'bind'; pid: number }
  | { do: 'release' }
  /** `rm`: a person's, without looking at anything. */
  | { do: 'sweep' | 'break' | 'rm' }
  | { do: 'cleanUp' }
)

export interface Script {
  operations: Operation[]
  /** Never exits; then it tries three times to clean up, else once. */
  stays?: boolean
  /** What it has in hand when the world begins. */
  holds?: Stamp
  watch?: Watch
}

type Disowned = Context['disowned'] extends Map<string, infer Each> ? Each : never

/** What a process carries from one operation to the next. */
export interface Luggage {
  next: number
  tries: number
  chores: number
  /** The stamp in which it believes. */
  held: Stamp | undefined
  isUnconfirmed: boolean
  disowned: [string, Disowned][]
  watch: Watch
}

export class Node {
  readonly root: Root
  readonly parent: Node | undefined
  readonly answer: Answer | undefined
  // Most have one: a map for each would be most of what a search keeps.
  #child: Node | undefined
  #others: Map<Answer, Node> | undefined
  readonly id: number
  /** What it asks for next; undefined before it has been run, and when the operation is over. */
  call: Call | undefined
  /** Where that leads to. */
  next: Node | undefined
  /** Where the other process would be, had it been its turn; see `Cast.twinOf`. */
  twin: Node | undefined

  constructor(root: Root, parent?: Node, answer?: Answer) {
    this.root = root
    this.parent = parent
    this.answer = answer
    this.id = root.owner.nodes++
  }

  child(answer: Answer): Node {
    const known = this.#child?.answer === answer ? this.#child : this.#others?.get(answer)
    if (known) return known
    const child = new Node(this.root, this, answer)
    if (this.#child) (this.#others ??= new Map()).set(answer, child)
    else this.#child = child
    return child
  }
}

/** The answer to a node's call where there is only one, and now is as good as later. */
export type More = (node: Node) => Answer | undefined

/** The beginning of an operation. */
export interface Root {
  owner: Cast
  p: number
  luggage: Luggage
  operation: Operation | undefined
  node: Node
}

/** Thrown by an operation: never expected of the protocol while the machine does not refuse. */
export class Surprise extends Error {}

const SUSPENDED = new Error('suspended')

/** All processes of one world. */
export class Cast {
  nodes = 0
  /** Which operations somebody has succeeded in. */
  readonly done = new Set<Operation['do']>()
  readonly protocol: Protocol
  readonly scripts: Script[]
  readonly machines: Machine[]
  readonly #roots = new Map<string, Root>()

  constructor(protocol: Protocol, scripts: Script[], machines: Machine[]) {
    this.protocol = protocol
    this.scripts = scripts
    this.machines = machines
  }

  begin(p: number): Node {
    const { holds, watch } = this.scripts[p]!
    return this.arrive(p, { next: 0, tries: 0, chores: 0, held: holds, isUnconfirmed: false, disowned: [], watch: watch ?? this.protocol.newWatch() })
  }

  /** The node at which a process with this luggage is. */
  arrive(p: number, luggage: Luggage): Node {
    return this.#at(this.#rootOf(p, luggage).node)
  }

  #rootOf(p: number, luggage: Luggage): Root {
    const operation = this.operationOf(p, luggage)
    if (!operation) {
      const { operations, stays } = this.scripts[p]!
      luggage = { next: operations.length, tries: 0, chores: stays ? luggage.chores : 0, held: luggage.held, isUnconfirmed: false, disowned: stays ? luggage.disowned : [], watch: this.protocol.newWatch() }
    }
    const { next, tries, chores, held, isUnconfirmed, disowned, watch } = luggage
    const key = JSON.stringify([p, next, tries, chores, held, isUnconfirmed, disowned, { ...watch, seen: [...watch.seen] }])
    let root = this.#roots.get(key)
    if (!root) {
      root = { owner: this, p, luggage, operation, node: undefined! }
      root.node = new Node(root)
      this.#roots.set(key, root)
    }
    return root
  }

  /** Where the other of two processes that are alike is when it has got this one's answers, with their names changed over. */
  twinOf(node: Node): Node {
    if (!node.twin) {
      const { p, luggage } = node.root
      node.twin = node.parent ? this.twinOf(node.parent).child(renamedAnswer(node.answer!)) : this.#rootOf(1 - p, renamedLuggage(luggage)).node
      node.twin.twin = node
    }
    return node.twin
  }

  operationOf(p: number, { next, disowned, chores }: Luggage): Operation | undefined {
    const { operations, stays } = this.scripts[p]!
    return operations[next] ?? (disowned.length > 0 && chores < (stays ? 3 : 1) ? { do: 'cleanUp' } : undefined)
  }

  /** Where a process is after this answer: at a call, perhaps of the next operation. */
  follow(node: Node, answer: Answer, more?: More): Node {
    return this.#at(node.child(answer), more)
  }

  #at(node: Node, more?: More): Node {
    if (node.next) return this.#at(node.next, more)
    return node.call ? node : this.#run(node, more)
  }

  skip(node: Node): Node {
    const { p, luggage } = node.root
    return this.arrive(p, { ...luggage, next: luggage.next + 1, tries: 0 })
  }

  #run(node: Node, more?: More): Node {
    const { p, luggage, operation } = node.root
    if (!operation) {
      node.call = { do: 'exit' }
      return node
    }
    const replay = new Replay(node, this.machines[p]!, (p << 24) + (luggage.next << 20) + (luggage.tries << 16) + (luggage.chores << 12), more)
    const context: Context = { system: replay.system, disowned: new Map(luggage.disowned) }
    const watch: Watch = { ...luggage.watch, seen: new Map([...luggage.watch.seen].map(([path, seen]) => [path, { ...seen }])) }
    const after = { ...luggage, watch }
    let surprise: unknown
    let isDone = false
    try {
      isDone = this.#operate(operation, p, context, watch, after, replay.act)
    } catch (error) {
      surprise = error
    }
    if (replay.failure) throw replay.failure
    if (replay.isSuspended) return replay.last
    replay.checkAllUsed()
    if (surprise !== undefined) throw new Surprise(`${operation.do} threw`, { cause: surprise })
    if (isDone) this.done.add(operation.do)
    after.disowned = [...context.disowned]
    replay.last.next = this.#rootOf(p, after).node
    return this.#at(replay.last.next, more)
  }

  /** Whether it succeeds. */
  #operate(operation: Operation, p: number, context: Context, watch: Watch, after: Luggage, act: () => void): boolean {
    const { protocol } = this
    const done = (isDone = true) => {
      after.next++
      after.tries = 0
      return isDone
    }
    const giveUp = () => {
      after.next = this.scripts[p]!.operations.length
      after.tries = 0
    }
    const again = (tries = 1) => {
      after.tries++
      if (after.tries < tries) return true
      done()
      return false
    }
    const lose = () => {
      after.held = undefined
      giveUp()
      return false
    }
    const rewrite = (result: ReturnType<Protocol['renew']>, tries?: number) => {
      if (result === 'lost') return lose()
      after.isUnconfirmed = !result.done
      if (!result.done) {
        again(tries)
        return false
      }
      after.held = result.stamp
      return done()
    }
    switch (operation.do) {
      case 'acquire': {
        const { adopt, tries } = operation
        const request: Request = { id: lockIdOf(p), adopt, fields: fieldsOf(operation) }
        // As `obtain` does.
        const result = (after.tries > 0 && protocol.wouldRefuse(context, LOCK, request, watch)) || protocol.acquire(context, LOCK, request, watch)
        if (result.done) {
          after.held = result.stamp
          return done()
        }
        if (!again(tries)) giveUp()
        return false
      }
      case 'renew':
        return rewrite((after.isUnconfirmed ? protocol.confirm : protocol.renew)(context, LOCK, lockIdOf(p), watch), operation.tries)
      case 'look': {
        const stamp = protocol.look(context, LOCK, lockIdOf(p))
        if (stamp === 'lost') return lose()
        if (stamp && (operation.trusting || !after.isUnconfirmed)) after.held = stamp
        return done(stamp !== undefined)
      }
      case 'renewShared': {
        return rewrite(protocol.renewShared(context, LOCK, operation.id ?? lockIdOf(p), watch), operation.tries)
      }
      case 'commit': {
        let hasActed = false
        const result = protocol.commit(context, [{ path: LOCK, id: lockIdOf(p) }], watch, () => {
          act()
          hasActed = true
        })
        if (!result) return done(hasActed)
        if ('lost' in result) return lose()
        again(operation.tries)
        return false
      }
      case 'bind': {
        const { pid } = operation
        const add = (stamp: Stamp) => ({ ...stamp, processes: [...(stamp.processes ?? []), { pid, start: startOf(pid) }] })
        return rewrite(protocol.confirm(context, LOCK, lockIdOf(p), watch, add))
      }
      case 'release': {
        const result = protocol.release(context, LOCK, lockIdOf(p), watch)
        if (!result.done) protocol.disown(context, lockIdOf(p), LOCK, 0)
        after.held = undefined
        return done(result.done)
      }
      case 'break': {
        let isBroken = false
        const unlink = (path: string) => {
          context.system.unlink(path)
          isBroken ||= path === LOCK
        }
        protocol.breakOpen({ ...context, system: { ...context.system, unlink } }, LOCK, protocol.inspect(context, LOCK).reading, watch)
        return done(isBroken)
      }
      case 'rm':
        try {
          context.system.unlink(LOCK)
        } catch (error) {
          if (systemCode(error) !== 'ENOENT') throw error
        }
        return done()
      case 'sweep':
        for (let level = 0; level <= protocol.MAX_GUARDS + 1; level++) protocol.sweep(context, pathOf(level), level, watch)
        return done()
      case 'cleanUp':
        protocol.cleanUp(context, watch)
        if (after.next < this.scripts[p]!.operations.length) return done()
        after.chores++
        return true
    }
  }
}

/** The id of the lock that process `p` takes. */
export const lockIdOf = (p: number) => hex(0xa0 + p, 16)

function fieldsOf({ ttlMs, renews = true }: Extract<Operation, { do: 'acquire' }>): Request['fields'] {
  return { owner: undefined, reason: undefined, processes: undefined, ttlMs, renews }
}

export const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')

export function machineOf(p: number, start: string): Machine {
  const pid = pidOf(p)
  return { boot: 'boot-1', pidns: '1', timens: '1', host: 'here', self: { pid, start, tid: pid }, granularityMs: 50 }
}

function isSame(one: Call, other: Call): boolean {
  const [a, b] = [one as Record<string, unknown>, other as Record<string, unknown>]
  for (const key in a) if (a[key] !== b[key]) return false
  return true
}

const calls = new Map<string, Call>()

/** Only to keep fewer of them. */
function theSame(call: Call): Call {
  const key = Object.values(call).join(' ')
  if (!calls.has(key)) calls.set(key, call)
  return calls.get(key)!
}

// ---- two that are alike ----

/** A text with what tells A from B changed over: their ids, those of their guards, their pids and starting times. */
export function renamed(text: string): string {
  return text.replace(/\b0{14}a[01]\b|\b0{9}[cd][0-9a-f]{6}\b|(?<=[pt]id\\*":)1[12]\b|(?<=start\\*":\\*")1[12](?=00\\*")/g, (name) => {
    if (name.length === 2) return name === '11' ? '12' : '11'
    return name[14] === 'a' ? `${name.slice(0, 15)}${1 - Number(name[15])}` : `${name.slice(0, 9)}${name[9] === 'c' ? 'd' : 'c'}${name.slice(10)}`
  })
}

const renamedAnswers = new Map<Answer, Answer>()

function renamedAnswer(answer: Answer): Answer {
  let other = renamedAnswers.get(answer)
  if (!other) {
    const { value } = answer
    const pid = (value as ProcessFacts | undefined)?.threads?.[0]
    other = typeof value === 'string' ? read(textNumber(renamed(value))) : pid === pidOf(0) || pid === pidOf(1) ? looked(alive(pidOf(0) + pidOf(1) - pid)) : answer
    renamedAnswers.set(answer, other)
  }
  return other
}

function renamedLuggage(luggage: Luggage): Luggage {
  const { watch, ...rest } = luggage
  const other = JSON.parse(renamed(JSON.stringify({ ...rest, watch: { ...watch, seen: [...watch.seen] } })))
  return { ...other, watch: { ...other.watch, seen: new Map(other.watch.seen) } }
}

// ---- the seam ----

/** Answers what has been answered before; suspends at what has not. */
class Replay {
  isSuspended = false
  /** What `more` threw: not for the protocol to catch. */
  failure: Error | undefined
  readonly #nodes: Node[] = []
  #next = 0
  readonly #more: More | undefined
  readonly system: System

  constructor(node: Node, machine: Machine, tokens: number, more: More | undefined) {
    for (let each: Node | undefined = node; each; each = each.parent) this.#nodes.push(each)
    this.#nodes.reverse()
    this.#more = more
    // The same whenever it is asked: nothing to explore.
    const given = <T>(give: () => T) => () => {
      if (this.isSuspended) throw SUSPENDED
      return give()
    }
    this.system = systemOf((call) => this.#ask(call), given(() => machine), given(() => hex(0xc000000 + tokens++, 16)))
  }

  #ask(call: Call): unknown {
    if (this.isSuspended) throw SUSPENDED
    const asked = this.#nodes[this.#next]!
    asked.call ??= theSame(call)
    const answered = this.#nodes[this.#next + 1] ?? this.#goOn(asked)
    // Run again, it must ask the same: otherwise there is a clock or a chance beside the seam.
    if (!isSame(asked.call!, call)) throw new Error(`asked ${JSON.stringify(call)} where it had asked ${JSON.stringify(asked.call)}`)
    this.#next++
    const { error, value } = answered.answer!
    if (error !== undefined) throw systemError(error)
    return value
  }

  #goOn(node: Node): Node {
    let answer: Answer | undefined
    try {
      answer = this.#more?.(node)
    } catch (error) {
      this.failure = error as Error
    }
    this.isSuspended = !answer
    if (!answer) throw SUSPENDED
    const child = node.child(answer)
    this.#nodes.push(child)
    return child
  }

  get last(): Node {
    return this.#nodes.at(-1)!
  }

  checkAllUsed(): void {
    if (this.#next !== this.#nodes.length - 1) throw new Error('ended before it had asked for all that it had been answered')
  }

  /** Not the protocol's call, but its caller's. */
  act = () => void this.#ask({ do: 'act' })
}
