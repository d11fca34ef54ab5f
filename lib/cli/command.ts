import { parseArgs } from 'node:util'
import { type Duration, fs, isLockError, locate, LockError, plain, show, toMs } from '../core/index.js'

/** Exit statuses; those above 63 are the field's (sysexits.h). */
export const EXIT = { done: 0, usage: 64, software: 70, cannotCreate: 73, conflict: 75, lost: 76, notPermitted: 77 } as const

/** An option: `value` is the placeholder of its argument; without one it is a switch. */
export interface Option {
  value?: string
  about: string
  short?: string
  /** May be given several times. */
  multiple?: boolean
}

export type Values = Record<string, string | boolean | string[] | undefined>

export interface Command {
  usage: string
  about: string
  options: Record<string, Option>
  examples: string[]
  /** More exit statuses. */
  notes?: string[]
  /** How many operands there must be: from, to. */
  operands: [number, number]
  run(operands: string[], values: Values, io: Io): Promise<number>
}

export const COMMON: Record<string, Option> = {
  json: { about: 'print one JSON object on stdout' },
  quiet: { short: 'q', about: 'no words on stderr' },
  'conflict-exit-code': { value: 'N', about: 'exit status when somebody else has it (default 75)' },
  help: { short: 'h', about: 'show this' },
}

/** Data goes to stdout, words to stderr. */
export class Io {
  readonly json: boolean
  readonly #quiet: boolean
  /** The exit status when somebody else has it. */
  readonly conflict: number

  constructor(values: Values) {
    this.json = values['json'] === true
    this.#quiet = values['quiet'] === true
    this.conflict = exitCode(values['conflict-exit-code'])
  }

  /** The object for `--json`, or else the text, which may be empty. */
  print(object: unknown, text: string): void {
    const out = this.json ? JSON.stringify(object) : text
    if (out !== '') writeOut(`${out}\n`)
  }

  say(words: string): void {
    if (!this.#quiet) process.stderr.write(`lockpact: ${plain(words)}\n`)
  }

  /** Tells what went wrong; `object` is what `--json` prints besides the error's facts. */
  fail(error: unknown, object: Record<string, unknown> = {}): number {
    if (!isLockError(error)) throw error
    const { code, file, holder, verdict, retryAfterMs, message } = error
    if (this.json)
      this.print(
        {
          ...object,
          code,
          file: file ?? null,
          holder: holder ?? null,
          verdict: verdict ?? null,
          retryAfterMs: retryAfterMs ?? null,
          message,
        },
        '',
      )
    this.say(message)
    return statusOf(code, this.conflict)
  }
}

/** Writes to stdout now; throws when nobody can read it, so that a command can undo what it could not tell. */
export function writeOut(text: string): void {
  let bytes = Buffer.from(text)
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(fs.writeSync(1, bytes))
    } catch (error) {
      const { code = 'EIO' } = error as NodeJS.ErrnoException
      // A pipe that is full for the moment.
      if (code !== 'EAGAIN') throw new LockError(code, `cannot write to stdout (${code})`, { cause: error })
    }
  }
}

function exitCode(value: unknown): number {
  const code = value === undefined ? EXIT.conflict : Number(value)
  if (!Number.isInteger(code) || code < 0 || code > 255 || value === '')
    throw usageError(`--conflict-exit-code takes a number from 0 to 255, not ${show(value)}`)
  return code
}

function statusOf(code: string, conflict: number): number {
  switch (code) {
    case 'ELOCKED':
      return conflict
    case 'ECOMPROMISED':
      return EXIT.lost
    case 'EINVAL':
      return EXIT.usage
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

/** Splits the words behind the command's name. Throws `EINVAL` for what the command does not know. */
export function parse(command: Command, args: string[]): { operands: string[]; values: Values } {
  const options = Object.fromEntries(
    Object.entries({ ...command.options, ...COMMON }).map(([name, { value, short, multiple }]) => [
      name,
      { type: value === undefined ? ('boolean' as const) : ('string' as const), ...(short && { short }), ...(multiple && { multiple }) },
    ]),
  )
  try {
    const { positionals, values } = parseArgs({ args, options, allowPositionals: true, strict: true })
    return { operands: positionals, values: values as Values }
  } catch (error) {
    throw usageError((error as Error).message.replaceAll('\n', ' '))
  }
}

export function checkOperands({ operands: [from, to], usage }: Command, given: string[]): void {
  if (given.length < from || given.length > to) throw usageError(`usage: lockpact ${usage}`)
}

/** A duration with its unit, or `word` for Infinity. A bare number is an error: of what? */
export function duration(values: Values, name: string, word: string): { ms: Duration } | undefined {
  const value = values[name]
  if (value === undefined) return undefined
  if (value === word) return { ms: Infinity }
  if (/^[\d.]+$/.test(String(value))) throw usageError(`--${name} needs a unit: ${value}ms, ${value}s or ${value}m?`)
  return { ms: toMs(value, `--${name}`) }
}

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

/** What `renew` and `release` take. */
export const tokenOptions: Record<string, Option> = {
  token: { value: 'T', about: 'what acquire printed' },
  'lock-file': { value: 'PATH', about: 'another lock file than RESOURCE.lock' },
}

export function byToken(values: Values): { token: string; options: { lockFile?: string } } {
  const lockFile = text(values, 'lock-file')
  return { token: needed(values, 'token', 'acquire printed it'), options: { ...(lockFile !== undefined && { lockFile }) } }
}

/** The absolute names that a resource has in `--json`. */
export function placeOf(resource: string, options: { lockFile?: string }): { file: string; lockFile: string } {
  const { file, lockFile } = locate(resource, options.lockFile)
  return { file, lockFile }
}

export function help({ usage, about, options, examples, notes }: Command): string {
  const rows = Object.entries({ ...options, ...COMMON }).map(
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
    'examples:',
    ...examples.map((example) => `  ${example}`),
    '',
    'exit status:',
    '  0 done, 64 usage, 73 cannot create, 75 somebody else has it (or its guard),',
    '  77 not permitted (or not the holder)',
    ...(notes ?? []).map((note) => `  ${note}`),
  ].join('\n')
}

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
