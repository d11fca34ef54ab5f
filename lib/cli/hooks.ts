import { isDeepStrictEqual } from 'node:util'
import type { Edit } from './block.js'

/*
 * Hooks for the settings of Claude Code, Gemini CLI and Codex, which people write by hand: what is there keeps every byte, new entries are
 * put between. A file that we do not understand is left alone.
 */

type Hooks = Record<string, unknown[]>

/** Adds the hooks of `template` for the events that have no hook of lockpact. */
export function addHooks(text: string | undefined, template: string): Edit {
  if (text === undefined || text.trim() === '') return { text: template }
  let settings: unknown
  try {
    settings = JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (error) {
    return { left: `it is not plain JSON: ${(error as Error).message}` }
  }
  const { hooks: wanted } = JSON.parse(template) as { hooks: Hooks }
  if (!isObject(settings)) return { left: 'it is not a JSON object' }
  const { hooks = {} } = settings
  if (!isObject(hooks)) return { left: 'its "hooks" is not an object' }
  let after = text
  for (const [event, entries] of Object.entries(wanted)) {
    const there = hooks[event] ?? []
    if (!Array.isArray(there)) return { left: `its "hooks" has no list for ${event}` }
    if (!JSON.stringify(there).includes('lockpact ')) after = addEntries(after, event, entries)
  }
  return after === text ? {} : checked(after, settings, wanted)
}

function addEntries(text: string, event: string, entries: unknown[]): string {
  const root = parse(text)
  const hooks = root.members.get('hooks')
  if (!hooks) return insert(text, root, 'hooks', { [event]: entries })
  const list = hooks.members.get(event)
  if (!list) return insert(text, hooks, event, entries)
  return entries.reduce<string>((text, entry) => insert(text, parse(text).members.get('hooks')!.members.get(event)!, undefined, entry), text)
}

// The text must mean what was there, and the new hooks.
function checked(text: string, before: Record<string, unknown>, wanted: Hooks): Edit {
  const { hooks: added, ...others } = JSON.parse(text.replace(/^\uFEFF/, '')) as { hooks: Hooks }
  const { hooks: old = {}, ...rest } = before as { hooks?: Hooks }
  const isKept = Object.entries(old).every(([event, entries]) => isDeepStrictEqual(added[event]?.slice(0, entries.length), entries))
  const isAdded = Object.keys(wanted).every((event) => JSON.stringify(added[event]).includes('lockpact '))
  return isDeepStrictEqual(others, rest) && isKept && isAdded ? { text } : { left: 'it cannot be added to safely' }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

// ---- where things are in a JSON text ----

interface Node {
  start: number
  end: number
  members: Map<string, Node>
  /** Where the last child ends. */
  last?: number
}

/** Of a text that JSON.parse has accepted. Of two members with one name the last counts, as it does there. */
function parse(text: string): Node {
  const tokens = text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s"[\]{}:,\uFEFF]+/g)
  const open: Node[] = []
  let key: string | undefined
  let word: string | undefined
  for (const { 0: token, index } of tokens) {
    const parent = open.at(-1)
    if (token === ':') key = JSON.parse(word!) as string
    else if (token === ',') key = undefined
    else if (token === '}' || token === ']') {
      const closed = open.pop()!
      closed.end = index + 1
      const above = open.at(-1)
      if (!above) return closed
      above.last = closed.end
    } else {
      const node: Node = { start: index, end: index + token.length, members: new Map() }
      if (parent && key !== undefined) parent.members.set(key, node)
      if (parent) parent.last = node.end
      word = token
      key = undefined
      if (token === '{' || token === '[') open.push(node)
    }
  }
  throw new Error('no JSON container')
}

function insert(text: string, { start, end, last }: Node, key: string | undefined, value: unknown): string {
  const isInline = last !== undefined && !text.slice(start, last).includes('\n')
  const name = key === undefined ? '' : `${JSON.stringify(key)}: `
  if (isInline) return `${text.slice(0, last)}, ${name}${JSON.stringify(value)}${text.slice(last)}`
  const newline = text.includes('\r\n') ? '\r\n' : '\n'
  const [, unit = '  '] = /\n([ \t]+)"/.exec(text) ?? []
  const [indent] = /^[ \t]*/.exec(text.slice(text.lastIndexOf('\n', start) + 1))!
  const line = `${newline}${indent}${unit}`
  const added = `${line}${name}${JSON.stringify(value, null, unit).replaceAll('\n', line)}`
  return last === undefined
    ? `${text.slice(0, start + 1)}${added}${newline}${indent}${text.slice(end - 1)}`
    : `${text.slice(0, last)},${added}${text.slice(last)}`
}
