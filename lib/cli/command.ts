import { fs, isLockError, locate, LockError, plain, show, toMs } from '../core/index.js'

// Through `import`, util would bring in all its lazy parts: several milliseconds at every start.
const { parseArgs } = process.getBuiltinModule('node:util')

/** Exit statuses; those above 63 are the field's (sysexits.h). */
export const EXIT = { done: 0, blocked: 2, usage: 64, badData: 65, software: 70, cannotCreate: 73, conflict: 75, lost: 76, notPermitted: 77 } as const

/** An option: `value` is the placeholder of its argument; without one it is a switch. */
export interface Option {
  value?: string
  about: string
  short?: string
  /** May be given several times. */
  multiple?: boolean
  /** Several, divided by commas. */
  list?: boolean
}

export type Values = Record<string, string | boolean | string[] | undefined>

export interface Command {
  usage: string
  about: string
  options: Record<string, Option>
  examples: string[]
  /** How many operands there must be: from, to. */
  operands: [number, number]
  /** Has `--emit`; the name of its operand, or of its first option, in what a tool is given. */
  input?: string
  /** Ends in `-- cmd…`. */
  takesCommand?: true
  /** More exit statuses. */
  notes?: string[]
  /** `rest`: what stands behind `--`, for a command that takes one. */
  run(operands: string[], values: Values, io: Io, rest: string[]): Promise<number>
}

export const COMMON: Record<string, Option> = {
  dir: { value: 'DIR', about: 'the workspace (default: LOCKPACT_DIR, else the nearest folder upwards that has a .lockpact)' },
  json: { about: 'print one JSON object on stdout' },
  quiet: { short: 'q', about: 'no words on stderr, unless something is wrong' },
  'conflict-exit-code': { value: 'N', about: 'exit status when somebody else has it (default 75)' },
  help: { short: 'h', about: 'show this' },
}

const EMITS = ['exit', 'wake', 'tool', 'hook'] as const
export type Emit = (typeof EMITS)[number]

/** Data goes to stdout, words to stderr; `--emit` says to whom. */
export class Io {
  readonly json: boolean
  readonly emit: Emit
  readonly #quiet: boolean
  /** The exit status when somebody else has it. */
  readonly conflict: number

  constructor(values: Values) {
    this.json = values['json'] === true
    this.emit = emitOf(values['emit'])
    this.#quiet = values['quiet'] === true
    this.conflict = exitCode(values['conflict-exit-code'])
  }

  /** What was asked for: the object for `--json`, or else the text, which may be empty. */
  print(object: object, text: string): void {
    if (this.emit === 'hook') return
    if (this.emit === 'wake') return writeOut(`${JSON.stringify({ wakeAgent: true, ...object })}\n`)
    const out = this.json || this.emit === 'tool' ? JSON.stringify(object) : text
    if (out !== '') writeOut(`${out}\n`)
  }

  /** Words beside the data. Schedulers, tools and hooks read nothing but the data. */
  say(words: string): void {
    if (this.emit === 'exit') this.#complain(words)
  }

  /** Something is wrong, also with `-q`: a crontab that is set up wrongly would be silent for ever. */
  warn(words: string): void {
    if (this.emit !== 'tool') writeErr(`lockpact: ${plain(words)}\n`)
  }

  /** Somebody else has it, or it has been done. */
  refuse(object: object, words: string): number {
    switch (this.emit) {
      case 'wake':
        writeOut(`NO_WORK: ${plain(words)}\n${JSON.stringify({ wakeAgent: false, ...object })}\n`)
        return EXIT.done
      case 'tool':
        this.print(object, '')
        return EXIT.done
      case 'hook':
        this.#complain(words)
        return EXIT.blocked
      default:
        if (this.json) this.print(object, '')
        this.say(words)
        return this.conflict
    }
  }

  /** Tells what went wrong; `object` is what `--json` prints besides the error's facts. */
  fail(error: unknown, object: object = {}): number {
    if (!isLockError(error)) {
      if (this.emit !== 'tool') throw error
      return this.#failTool('EUNKNOWN', String(error), object)
    }
    const { code, file = null, holder = null, verdict = null, retryAfterMs = null, message } = error
    const facts = { ...object, code, file, holder, verdict, retryAfterMs, message }
    if (code === 'ELOCKED' || code === 'ESTALE') return this.refuse(facts, message)
    if (this.emit === 'tool') return this.#failTool(code, message, object)
    if (this.json) writeOut(`${JSON.stringify(facts)}\n`)
    this.warn(message)
    return statusOf(error)
  }

  // A status other than 0 would hide the answer from whoever called the tool.
  #failTool(code: string, message: string, object: object): number {
    this.print({ ...object, error: { code, message } }, '')
    return EXIT.done
  }

  #complain(words: string): void {
    if (!this.#quiet) writeErr(`lockpact: ${plain(words)}\n`)
  }
}

/** Writes to stderr; that nobody can read it is no reason to fail. `process.stderr` would cost two milliseconds. */
export function writeErr(text: string): void {
  try {
    writeTo(2, text)
  } catch {
    // Closed, or a full disk.
  }
}

function emitOf(value: Values[string]): Emit {
  const emit = EMITS.find((each) => each === (value ?? 'exit'))
  if (!emit) throw usageError(`--emit takes ${EMITS.join(', ')}, not ${show(value)}`)
  return emit
}

/** For what is wrong before the options are known: how the answer is wanted, as far as that can be seen. */
export function wantedBy({ input }: Command, args: string[]): Values {
  const at = args.indexOf('--emit')
  const emit = at >= 0 ? args[at + 1] : args.find((arg) => arg.startsWith('--emit='))?.slice('--emit='.length)
  return { json: args.includes('--json'), emit: input === undefined ? undefined : EMITS.find((each) => each === emit) }
}

/** Writes to stdout now; throws when nobody can read it, so that a command can undo what it could not tell. */
export function writeOut(text: string): void {
  try {
    writeTo(1, text)
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException
    throw new LockError(code, `cannot write to stdout (${code})`, { cause: error })
  }
}

function writeTo(fd: number, text: string): void {
  let bytes = Buffer.from(text)
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(fs.writeSync(fd, bytes))
    } catch (error) {
      // A pipe that is full for the moment.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
}

function exitCode(value: unknown): number {
  const code = value === undefined ? EXIT.conflict : Number(value)
  if (!Number.isInteger(code) || code < 0 || code > 255 || value === '')
    throw usageError(`--conflict-exit-code takes a number from 0 to 255, not ${show(value)}`)
  return code
}

function statusOf({ code, file }: LockError): number {
  switch (code) {
    case 'ECOMPROMISED':
      return EXIT.lost
    case 'EINVAL':
      // What is wrong is in the file, not on the command line.
      return file === undefined ? EXIT.usage : EXIT.badData
    case 'ENOTACQUIRED':
    case 'EACCES':
    case 'EPERM':
      return EXIT.notPermitted
    default:
      return EXIT.cannotCreate
  }
}

export function usageError(message: string): LockError {
  return new LockError('EINVAL', message)
}

const EMIT: Option = { value: 'MODE', about: 'exit (default), wake, tool or hook: to whom it answers, see below' }

export function optionsOf({ options, input }: Command): Record<string, Option> {
  return { ...options, ...(input !== undefined && { emit: EMIT }), ...COMMON }
}

/** Splits the words behind the command's name. Throws `EINVAL` for what the command does not know. */
export function parse(command: Command, args: string[]): { operands: string[]; values: Values; rest: string[] } {
  const known = Object.entries(optionsOf(command))
  const options = Object.fromEntries(
    known.map(([name, { value, short, multiple = false, list = multiple }]) => [
      name,
      { type: value === undefined ? ('boolean' as const) : ('string' as const), ...(short && { short }), multiple: list },
    ]),
  )
  const end = command.takesCommand ? args.indexOf('--') : -1
  const [own, rest] = end < 0 ? [args, []] : [args.slice(0, end), args.slice(end + 1)]
  // `- [ ] an item` is a text, no option.
  const texts = own.filter((arg) => /^-\s/.test(arg))
  const hidden = own.map((arg) => (texts.includes(arg) ? `\0${texts.indexOf(arg)}` : arg))
  try {
    const { positionals: found, values } = parseArgs({ args: hidden, options, allowPositionals: true, strict: true }) as { positionals: string[]; values: Values }
    const positionals = found.map((arg) => (arg.startsWith('\0') ? texts[Number(arg.slice(1))]! : arg))
    for (const [name, { list: isList }] of known) if (isList && values[name]) values[name] = list(values, name).flatMap(listed)
    return { operands: positionals, values, rest }
  } catch (error) {
    const [what] = (error as Error).message.split(/\.? To specify|\n/)
    throw usageError(`${what}; see lockpact ${command.usage.split(' ')[0]} --help`)
  }
}

/** `A,B` as a list. */
export const listed = (text: string) => text.split(',').map((part) => part.trim()).filter(Boolean)

export function checkOperands({ operands: [from, to], usage }: Command, given: string[]): void {
  if (given.length < from || given.length > to) throw usageError(`usage: lockpact ${usage}`)
}

/** Milliseconds of a duration with its unit, or `word` for Infinity. A bare number is an error: of what? */
export function duration(values: Values, name: string, word?: string): number | undefined {
  const value = text(values, name)
  if (value === undefined) return undefined
  if (value === word) return Infinity
  if (/^[\d.]+$/.test(value)) throw usageError(`--${name} needs a unit: ${value}ms, ${value}s or ${value}m?`)
  return toMs(value, `--${name}`)
}

export function count(values: Values, name: string, of: string): number | undefined {
  const value = text(values, name)
  if (value === undefined) return undefined
  if (!/^[1-9]\d{0,14}$/.test(value)) throw usageError(`--${name} takes ${of}, not ${show(value)}`)
  return Number(value)
}

export const pidIn = (values: Values) => count(values, 'pid', 'the number of a living process')

export function text(values: Values, name: string): string | undefined {
  const value = values[name]
  return typeof value === 'string' ? value : undefined
}

/** What was given for an option that may be given several times. */
export function list(values: Values, name: string): string[] {
  const value = values[name]
  return Array.isArray(value) ? value : []
}

export function needed(values: Values, name: string, why: string): string {
  const value = text(values, name)
  if (value === undefined || value === '') throw usageError(`--${name} is missing: ${why}`)
  return value
}

/** The absolute names that a resource has in `--json`. */
export function placeOf(resource: string, options: { lockFile?: string }): { file: string; lockFile: string } {
  const { file, lockFile } = locate(resource, options.lockFile)
  return { file, lockFile }
}

export function help(command: Command): string {
  const { usage, about, examples, input, notes = [] } = command
  const rows = Object.entries(optionsOf(command)).map(
    ([option, { value, short, about }]) =>
      [`${short ? `-${short}, ` : ''}--${option}${value ? ` ${value}` : ''}`, about] as const,
  )
  return [
    `usage: lockpact ${usage}`,
    '',
    ...wrap(about, 78),
    '',
    'options:',
    ...columns(rows.flatMap(([left, right]) => wrap(right, 50).map((line, index) => [index === 0 ? `  ${left}` : '', line]))),
    '',
    ...(input === undefined ? [] : [...emitHelp(input), '']),
    'examples:',
    ...examples.map((example) => `  ${example}`),
    '',
    'exit status:',
    '  0 done, 64 usage, 65 bad data in a file, 73 cannot create,',
    '  75 somebody else has it (or its guard), 77 not permitted (or not the holder)',
    ...wrap(notes.join(' '), 77).map((line) => `  ${line}`),
  ].join('\n')
}

const emitHelp = (input: string) => [
  '--emit:',
  '  exit  the exit status is the answer',
  '  wake  for schedulers; refused: a line NO_WORK: reason, and last',
  '        {"wakeAgent":false,…}; granted: last {"wakeAgent":true,…}; status 0',
  '  tool  for tools: one JSON object, status 0, errors too: {"error":{…}}; input',
  '        also as JSON in TOOL_INPUT or, when the command line does not say which',
  `        ${input}, on stdin: the options' names with underscores, ttl_seconds`,
  '  hook  for hooks of agents: silent, or refused in one sentence on stderr and',
  "        status 2; what it takes is the session's (stdin's session_id)",
  '  What is an error and no refusal keeps its status (except tool): a scheduler',
  '  then starts the agent, a hook does not stop it.',
]

// Lines of at most so many characters.
function wrap(text: string, width: number): string[] {
  return text.match(new RegExp(`\\S.{0,${width - 1}}(?=\\s|$)`, 'g')) ?? []
}

/** Rows of cells as aligned lines. */
export function columns(rows: (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => rows.reduce((width, row) => Math.max(width, row[column]!.length), 0))
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd(),
  )
}
