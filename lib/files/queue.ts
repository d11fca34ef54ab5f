import { crypto, type Duration, fs, idOf, LockError, show, toMs } from '../core/index.js'
import { updateFile } from './edit.js'
import { type HoldOptions, locateFile } from './hold.js'
import { checkLine } from './lines.js'

/*
 * A Markdown list as a queue:
 *
 *     - [ ] an open item                                                    takeItem ->
 *     - [~] an item @hourly until 2026-11-20T10:00:00Z <!-- lockpact:9f2c41d7a0b3e816 -->       finishItem ->
 *     - [x] an item (its result)
 *
 * The comment has the public half of the token. Once `until` has passed, an item is open again. What is indented below an item
 * belongs to it. Everything else stays byte for byte: texts, line ends, items within items, and code.
 */

export interface Item {
  /** The public half of the token. */
  id: string
  /** With its continuation lines, as they stand there. */
  text: string
  /** Of the file, from 1. */
  line: number
}

/** An item that was taken. */
export interface Taken {
  item: Item
  /** Finishes or returns it, from any process. */
  token: string
  /** When it is open again; ISO, UTC. */
  until: string
}

/** Options of {@link takeItem}. */
export interface TakeOptions extends HoldOptions {
  /** How long it is ours. Default `'1h'`. */
  ttl?: Duration | undefined
}

/**
 * Takes the first open item of a Markdown queue, or one whose taker's time is over; undefined when there is none.
 * Rejects with `ENOENT` (no such queue), `ELOCKED`, `EINVAL`, or the system's code.
 *
 * @example
 * const taken = await takeItem('memory/contribution-queue.md', { owner: 'hourly' })
 * if (taken) await finishItem('memory/contribution-queue.md', taken.token, { result: 'shipped' })
 */
export async function takeItem(queue: string, options: TakeOptions = {}): Promise<Taken | undefined> {
  const { ttl = '1h', owner } = options
  const ttlMs = toMs(ttl, 'ttl')
  if (!(ttlMs > 0 && ttlMs <= MAX_TTL_MS)) throw new LockError('EINVAL', `ttl must be longer than 0 and at most 365 days, not ${show(ttl)}`)
  if (owner !== undefined) checkLine('owner', owner)
  const token = crypto().randomUUID()
  let taken: Taken | undefined
  await changeQueue(queue, options, (text) => {
    const now = Date.now()
    // Whole seconds, rounded up.
    const until = `${new Date(Math.ceil((now + ttlMs) / 1000) * 1000).toISOString().slice(0, 19)}Z`
    const [after, item] = take(text, { id: idOf(token), owner, until }, now) ?? []
    if (item) taken = { item, token, until }
    return after
  })
  return taken
}

/**
 * Ticks a taken item, with its result behind it; gives the item. Rejects with `ENOTACQUIRED` when the token has no item there: it was
 * finished or returned, or its time was over and somebody else took it; then what was done has been done by others, too.
 */
export async function finishItem(queue: string, token: string, options: HoldOptions & { result?: string | undefined } = {}): Promise<Item> {
  const { result } = options
  if (result !== undefined) checkLine('result', result)
  return settle(queue, token, options, 'x', result === undefined || result === '' ? '' : ` (${result})`)
}

/** Opens a taken item again; gives the item. Rejects as {@link finishItem}. */
export async function returnItem(queue: string, token: string, options: HoldOptions = {}): Promise<Item> {
  return settle(queue, token, options, ' ', '')
}

async function settle(queue: string, token: string, options: HoldOptions, mark: 'x' | ' ', result: string): Promise<Item> {
  const id = idOf(token)
  let settled: Item | undefined
  await changeQueue(queue, options, (text) => {
    const [after, item] = release(text, id, mark, result) ?? []
    if (!item) throw new LockError('ENOTACQUIRED', `this token has no item in ${queue}: it was finished or returned, or its time was over and somebody else took it`, { file: queue })
    settled = item
    return after
  })
  return settled!
}

async function changeQueue(queue: string, options: HoldOptions, change: (text: string) => string | undefined): Promise<void> {
  const { file: path } = await locateFile(queue)
  // Somebody mistyped; an empty queue would look like no work.
  if (!fs.existsSync(path)) throw new LockError('ENOENT', `there is no queue ${path}`, { file: path })
  await updateFile(queue, (text) => change(text), { ...options })
}

// ---- pure ----

const MAX_TTL_MS = 365 * 86_400_000
// Some editors put a byte order mark first, and some texts have other line separators in them.
const ITEM = /^(\uFEFF?[-*+] )\[([ ~])\] (?=\S)(.*)$/s
const CLAIM = / @\S+ until (\S+) <!-- lockpact:([0-9a-f]{16}) -->\s*$/
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})/s
const BULLET = /^\uFEFF?([-*+]|\d{1,9}[.)])\s/

/** The text with its first open item taken, and that item; undefined when there is none. */
export function take(text: string, by: { id: string; owner: string | undefined; until: string }, now: number): [string, Item] | undefined {
  const owner = (by.owner ?? '').trim().replace(/\s+/g, '-') || 'somebody'
  const claim = ` @${owner} until ${by.until} <!-- lockpact:${by.id} -->`
  return change(text, (bullet, mark, words) => {
    const [old, until] = CLAIM.exec(words) ?? []
    // A mark without a claim of ours is a person's; a time that cannot be read is not over.
    const isOpen = mark === ' ' || (until !== undefined && Date.parse(until) <= now)
    if (!isOpen) return undefined
    const plain = old === undefined || mark === ' ' ? words : words.slice(0, -old.length)
    return [`${bullet}[~] ${plain}${claim}`, plain, by.id]
  })
}

/** The text with the item of this id marked, and that item; undefined when there is none. */
export function release(text: string, id: string, mark: 'x' | ' ', result: string): [string, Item] | undefined {
  return change(text, (bullet, before, words) => {
    const [claim, , holder] = CLAIM.exec(words) ?? []
    if (before !== '~' || holder !== id) return undefined
    const plain = words.slice(0, -claim!.length)
    return [`${bullet}[${mark}] ${plain}${result}`, plain, id]
  })
}

// Changes the first item that `decide` wants otherwise: its new line, its words, its id.
function change(text: string, decide: (bullet: string, mark: string, words: string) => [string, string, string] | undefined): [string, Item] | undefined {
  const lines = text.split(/(?<=\n)/)
  let fence: { marks: string; isInItem: boolean } | undefined
  let isInItem = false
  let isInComment = false
  for (const [at, line] of lines.entries()) {
    const content = line.replace(/\r?\n$/, '')
    // What somebody has commented out, over several lines.
    if (isInComment) {
      isInComment = !content.includes('-->')
      continue
    }
    if (!fence) isInComment = content.replace(/<!--.*?-->/g, '').includes('<!--')
    const isIndented = /^(\s|$)/.test(content)
    // Code that was not closed ends with the item that it belongs to.
    if (fence?.isInItem && !isIndented) fence = undefined
    const [, indent, marks] = FENCE.exec(content) ?? []
    if (fence) {
      if (marks?.startsWith(fence.marks) && /^\s*[`~]+\s*$/.test(content)) fence = undefined
      continue
    }
    if (!isIndented) isInItem = BULLET.test(content)
    if (marks !== undefined) fence = { marks, isInItem: isInItem && indent!.length >= 2 }
    const [, bullet, mark, words] = ITEM.exec(content) ?? []
    const decided = bullet === undefined ? undefined : decide(bullet, mark!, words!)
    if (!decided) continue
    const [after, plain, id] = decided
    const item = { id, text: [plain, ...continuation(lines.slice(at + 1))].join('\n'), line: at + 1 }
    return [[...lines.slice(0, at), after + line.slice(content.length), ...lines.slice(at + 1)].join(''), item]
  }
  return undefined
}

// What is indented, and blank lines between.
function continuation(lines: string[]): string[] {
  const end = lines.findIndex((line) => !/^(\s*$|\s)/.test(line))
  const own = (end < 0 ? lines : lines.slice(0, end)).map((line) => line.trimEnd())
  while (own.at(-1) === '') own.pop()
  return own
}
