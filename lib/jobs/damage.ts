import { show } from '../core/index.js'

/*
 * Where a document breaks, for a person who is going to mend it. Runtimes say this each in its own way, or not at all.
 */

/** What is wrong with a document, and at which line; `faultOf` says what is wrong with an entry of its list `name`. */
export function damageOf(bytes: Buffer, name: string, faultOf: (entry: unknown) => string | undefined): string {
  const text = bytes.toString()
  if (text.trim() === '') return 'it is empty (line 1, column 1)'
  const at = breakIn(text)
  if (at !== undefined) {
    // Nothing more, or the beginning of a string and no end.
    const isCut = /^("[^\n]*|\s*)$/.test(text.slice(at))
    return `${isCut ? 'it ends in the middle' : `${show(text.slice(at, at + 20))} is out of place`} (${placeIn(text, at)})`
  }
  const document = JSON.parse(text) as Record<string, unknown> | null
  const entries = document?.[name]
  if (document?.['v'] !== 1 || !Number.isInteger(document['rev']) || !Array.isArray(entries)) return `it must be {"v":1,"rev":…,"${name}":[…]}`
  const index = entries.findIndex((entry) => faultOf(entry) !== undefined)
  if (index < 0) return 'it is not UTF-8 text'
  const { name: called } = (entries[index] ?? {}) as { name?: unknown }
  return `entry ${index + 1} of ${name} (${show(called)}, ${placeIn(text, entryStart(text, name, index))}): ${faultOf(entries[index])}`
}

function placeIn(text: string, at: number): string {
  const lines = text.slice(0, at).split('\n')
  return `line ${lines.length}, column ${lines.at(-1)!.length + 1}`
}

const TOKEN = /([{}[\],:])|("[^"\\\0-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\0-\x1f]*)*")|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y
const SPACE = /[ \t\r\n]*/y

type Expected = 'value' | 'first value' | 'key' | 'first key' | 'colon' | 'more' | 'nothing'

/** The index at which a text stops being JSON; undefined when it is. */
export function breakIn(text: string): number | undefined {
  const open: string[] = []
  let expected: Expected = 'value'
  for (let at = 0; ; at = TOKEN.lastIndex) {
    SPACE.lastIndex = at
    SPACE.exec(text)
    const start = (TOKEN.lastIndex = SPACE.lastIndex)
    if (start === text.length) return expected === 'nothing' ? undefined : start
    const [token, mark, string] = TOKEN.exec(text) ?? []
    const next: Expected | undefined = token === undefined ? undefined : after(expected, mark ?? '', string !== undefined, open)
    if (next === undefined) return start
    expected = next
  }
}

// What may follow; undefined: this token must not be here.
function after(expected: Expected, mark: string, isString: boolean, open: string[]): Expected | undefined {
  const closed = (): Expected => (open.length === 0 ? 'nothing' : 'more')
  const isList = open.at(-1) === '['
  if (expected === 'colon') return mark === ':' ? 'value' : undefined
  if (expected === 'more' && mark === ',') return isList ? 'value' : 'key'
  if (mark === ']' && isList && (expected === 'more' || expected === 'first value')) return (open.pop(), closed())
  if (mark === '}' && !isList && (expected === 'more' || expected === 'first key')) return (open.pop(), closed())
  if (expected === 'key' || expected === 'first key') return isString ? 'colon' : undefined
  if (expected !== 'value' && expected !== 'first value') return undefined
  if (mark === '[') return (open.push(mark), 'first value')
  if (mark === '{') return (open.push(mark), 'first key')
  return mark === '' ? closed() : undefined
}

// As it is written, an entry is a line; in another form the place is that of the list.
function entryStart(text: string, name: string, index: number): number {
  const list = text.indexOf(`"${name}"`)
  const lines = text.split('\n')
  if (!/^\{"v":1,"rev":\d+,"\w+":\[$/.test(lines[0]!)) return list
  return lines.slice(0, index + 1).join('\n').length + 1
}
