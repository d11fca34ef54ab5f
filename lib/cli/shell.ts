import { join, resolve } from '../core/index.js'

/*
 * What a shell line certainly writes. Only what is unambiguous counts, for a false alarm stops an agent that did nothing wrong:
 *
 * - redirections (`>`, `>>`, `>|`, `&>`), and tee, rm, mv, cp, sed -i, touch by their plain names, also behind `A=b`, sudo, command, time, env;
 *   behind `&&`, `||`, `;`, `|` and in `( … )` alike;
 * - what may not happen does not count: `cp -n`, `touch -r`, anything behind `exit`; nor does `cd` in a pipe or in the background;
 * - a word counts when it stands there: variables, substitutions, patterns and braces make it unclear, and it is left out; `~/` is known;
 * - `cd` is followed while its word is clear; after an unclear one, only absolute paths count;
 * - if, for, while, case, functions and `{ … }`: what follows is left out; so are `sh -c '…'`, xargs, eval and whatever else starts a program;
 * - here-documents and comments are not commands; a quote or parenthesis that is left open makes the whole line unclear.
 */

/** A word; `isClear`: it means what it says. */
interface Word {
  text: string
  isClear: boolean
}

type Token = { kind: 'word'; word: Word } | { kind: 'operator'; text: string }

const KEYWORDS = new Set(['if', 'then', 'elif', 'else', 'fi', 'for', 'while', 'until', 'do', 'done', 'case', 'esac', 'select', 'function', '{', '}', '[[', '!'])
const PREFIXES = new Set(['sudo', 'command', 'time', 'env', 'nohup'])
const OPERATORS = ['<<-', '<<<', '&>>', '<<', '>>', '>|', '>&', '<&', '&>', '<>', '&&', '||', ';;', '>', '<', '|', '&', ';', '(', ')', '\n']
const WRITING = new Set(['>', '>>', '>|', '&>', '&>>', '>&'])
const READING = new Set(['<', '<<<', '<>', '<&'])
/** After these, nothing of the line is done. */
const LEAVING = new Set(['exit', 'return', 'exec', 'break', 'continue'])

/** Absolute paths that a line writes, started in `cwd`. `isFolder` looks at the file system. */
export function writesOf(line: string, cwd: string, home: string | undefined, isFolder: (path: string) => boolean): string[] {
  const tokens = tokensOf(line, home)
  if (!tokens) return []
  const found: string[] = []
  const outer: (string | undefined)[] = []
  let folder: string | undefined = cwd
  let words: Word[] = []
  let isAlternative = false
  let isPiped = false
  const place = ({ text, isClear }: Word): string[] => {
    if (!isClear || text === '') return []
    if (text.startsWith('/')) return [resolve(text)]
    return folder === undefined ? [] : [resolve(folder, text)]
  }
  // `end`: the operator behind it.
  const endCommand = (end: string) => {
    const [name, ...args] = withoutPrefixes(words)
    words = []
    if (!name?.isClear) return
    // In a process of its own, as those of a pipe are, it changes nothing for the others.
    if (name.text === 'cd' && (end === '|' || end === '&' || isPiped)) return
    if (name.text === 'cd' || name.text === 'pushd' || name.text === 'popd') {
      const [to] = args.length === 1 && name.text === 'cd' && !isAlternative ? place(args[0]!) : []
      folder = args[0]?.text === '-' ? undefined : to
    } else found.push(...writesOfCommand(name.text, args, place, isFolder))
  }
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at]!
    if (token.kind === 'word') {
      if (words.length === 0 && token.word.isClear && KEYWORDS.has(token.word.text)) return found
      words.push(token.word)
      continue
    }
    const { text } = token
    const next = tokens[at + 1]
    if (WRITING.has(text) || READING.has(text)) {
      if (next?.kind !== 'word') return found
      // >&2 is a descriptor.
      if (WRITING.has(text) && !(text === '>&' && /^(\d+|-)$/.test(next.word.text))) found.push(...place(next.word))
      // A number before it is a descriptor.
      at++
      continue
    }
    // f() { … }, and (( arithmetic ))
    if (text === '(' && (words.length > 0 || (next?.kind === 'operator' && next.text === '('))) return found
    if (words[0]?.isClear && LEAVING.has(words[0].text)) return found
    endCommand(text)
    isAlternative = text === '||'
    isPiped = text === '|'
    if (text === '(') outer.push(folder)
    else if (text === ')') {
      if (outer.length === 0) return found
      folder = outer.pop()
    }
  }
  endCommand(';')
  return [...new Set(found)]
}

function withoutPrefixes(words: Word[]): Word[] {
  const first = words.findIndex(({ text, isClear }) => !(/^\w+=/.test(text) || (isClear && PREFIXES.has(text))))
  const rest = first < 0 ? [] : words.slice(first)
  // An option of sudo or env: which of the next words is the command, only they know.
  return first > 0 && rest[0]!.text.startsWith('-') ? [] : rest
}

function writesOfCommand(name: string, args: Word[], place: (word: Word) => string[], isFolder: (path: string) => boolean): string[] {
  const end = args.findIndex(({ text }) => text === '--')
  const options = (end < 0 ? args : args.slice(0, end)).filter(({ text }) => /^-./.test(text))
  const operands = args.filter((word, index) => index > end && end >= 0 ? true : index !== end && !options.includes(word))
  if (options.some(({ text }) => text === '--help' || text === '--version')) return []
  switch (name) {
    case 'touch':
      // The time of a folder is nobody's; -r, -d and -t take a word.
      return options.some(({ text }) => /^-\w*[rdt]|^--(ref|date|time)/.test(text)) ? [] : operands.flatMap(place).filter((path) => !isFolder(path))
    case 'tee':
    case 'rm':
      return operands.flatMap(place)
    case 'mv':
    case 'cp': {
      // Elsewhere, or perhaps not at all.
      if (operands.length < 2 || options.some(({ text }) => /^-\w*[tTnu]|^--(target|no-target|no-clobber|update)/.test(text))) return []
      const sources = operands.slice(0, -1)
      const [target] = place(operands.at(-1)!)
      const moved = name === 'mv' ? sources.flatMap(place) : []
      if (target === undefined) return moved
      const inside = sources.flatMap((source) => place(source).map((path) => join(target, path.slice(path.lastIndexOf('/') + 1))))
      return [...moved, ...(isFolder(target) ? inside : [target])]
    }
    case 'sed':
      return filesOfSed(args).flatMap(place)
    default:
      return []
  }
}

function filesOfSed(args: Word[]): Word[] {
  let inPlace = false
  let hasScript = false
  const operands: Word[] = []
  for (let at = 0; at < args.length; at++) {
    const { text } = args[at]!
    if (/^-[nErsuz]*i|^--in-place/.test(text)) inPlace = true
    if (/^(-[nErsuz]*[ef]|--expression|--file)$/.test(text)) {
      hasScript = true
      at++
    } else if (/^--(expression|file)=/.test(text)) hasScript = true
    else if (!/^-./.test(text)) operands.push(args[at]!)
  }
  return inPlace ? operands.slice(hasScript ? 0 : 1) : []
}

// ---- words and operators ----

/** Undefined when something is left open. */
function tokensOf(line: string, home: string | undefined): Token[] | undefined {
  const tokens: Token[] = []
  const heredocs: { delimiter: string; strip: boolean }[] = []
  let at = 0
  while (at < line.length) {
    const rest = line.slice(at)
    const blank = /^([ \t\r]+|\\\n)/.exec(rest)
    if (blank) {
      at += blank[0].length
      continue
    }
    if (rest[0] === '#') {
      at += rest.search(/\n|$/)
      continue
    }
    // 2> and the like.
    const descriptor = /^\d+(?=[<>])/.exec(rest)
    const start = descriptor ? at + descriptor[0].length : at
    const operator = OPERATORS.find((text) => line.startsWith(text, start))
    if (!operator) {
      const read = wordAt(line, at, home)
      if (!read) return undefined
      tokens.push({ kind: 'word', word: read.word })
      at = read.end
      continue
    }
    at = start + operator.length
    if (operator === '<<' || operator === '<<-') {
      at += /^[ \t]*/.exec(line.slice(at))![0].length
      const read = wordAt(line, at, undefined)
      if (!read) return undefined
      heredocs.push({ delimiter: read.word.text, strip: operator === '<<-' })
      at = read.end
      continue
    }
    tokens.push({ kind: 'operator', text: operator === '\n' ? ';' : operator })
    if (operator !== '\n') continue
    for (const { delimiter, strip } of heredocs.splice(0)) {
      for (let isOver = false; !isOver && at < line.length; ) {
        const end = line.indexOf('\n', at)
        const body = line.slice(at, end < 0 ? line.length : end)
        isOver = (strip ? body.replace(/^\t+/, '') : body) === delimiter
        at = end < 0 ? line.length : end + 1
      }
    }
  }
  return tokens
}

function wordAt(line: string, from: number, home: string | undefined): { word: Word; end: number } | undefined {
  let text = ''
  let isClear = true
  let at = from
  if (home !== undefined && /^~(\/|$)/.test(line.slice(from)) ) {
    text = home
    at++
  } else if (line[from] === '~') isClear = false
  for (; at < line.length; at++) {
    const character = line[at]!
    if (/[\s;&|<>()]/.test(character)) break
    if (character === '\\') {
      if (line[++at] !== '\n') text += line[at] ?? ''
    } else if (character === "'") {
      const end = line.indexOf("'", at + 1)
      if (end < 0) return undefined
      text += line.slice(at + 1, end)
      at = end
    } else if (character === '"') {
      const end = endOfQuote(line, at)
      if (end === undefined) return undefined
      const quoted = line.slice(at + 1, end)
      if (/[$`]/.test(quoted)) isClear = false
      text += quoted.replace(/\\([$`"\\\n])/g, '$1')
      at = end
    } else if (line.startsWith('${', at)) {
      const end = line.indexOf('}', at)
      // With quotes or braces in it, where it ends is for a shell to say.
      if (end < 0 || /["'`\\{]/.test(line.slice(at + 2, end))) return undefined
      isClear = false
      at = end
    } else if (character === '`' || (character === '$' && line[at + 1] === '(')) {
      const end = endOfSubstitution(line, at)
      if (end === undefined) return undefined
      isClear = false
      at = end
    } else {
      if (/[$*?[\]{}]/.test(character)) isClear = false
      text += character
    }
  }
  return at === from ? undefined : { word: { text, isClear }, end: at }
}

// The closing double quote of the one at `from`.
function endOfQuote(line: string, from: number): number | undefined {
  for (let at = from + 1; at < line.length; at++) {
    if (line[at] === '"') return at
    if (line[at] === '\\') at++
    else if (line[at] === '`' || line.startsWith('$(', at)) {
      const end = endOfSubstitution(line, at)
      if (end === undefined) return undefined
      at = end
    }
  }
  return undefined
}

// The last character of the substitution at `from`. A `case` has parentheses without a partner.
function endOfSubstitution(line: string, from: number): number | undefined {
  if (line[from] === '`') {
    const end = line.indexOf('`', from + 1)
    return end < 0 ? undefined : end
  }
  for (let at = from + 1, depth = 0; at < line.length; at++) {
    let end: number | undefined = at
    if (line[at] === '(') depth++
    else if (line[at] === ')' && --depth === 0) return at
    else if (line[at] === '\\') end = at + 1
    else if (line[at] === "'") end = line.indexOf("'", at + 1)
    else if (line[at] === '"') end = endOfQuote(line, at)
    // A here-document may have anything in it.
    else if (line.startsWith('<<', at) || /^case\b/.test(line.slice(at, at + 5))) return undefined
    if (end === undefined || end < 0) return undefined
    at = end
  }
  return undefined
}
