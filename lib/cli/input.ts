import { show } from '../core/index.js'
import { sessionOf } from '../work/index.js'
import { type Command, COMMON, type Emit, listed, type Option, usageError, type Values } from './command.js'

/** Adds what a tool or a hook is given besides the command line, which wins. Throws `EINVAL`. */
export async function addInput(command: Command, emit: Emit, operands: string[], values: Values): Promise<void> {
  if (emit === 'tool') await addToolInput(command, operands, values)
  else await addSession()
}

async function addToolInput(command: Command, operands: string[], values: Values): Promise<void> {
  const name = command.input!
  const isTold = operands.length > 0 || values[name] !== undefined
  const given = process.env['TOOL_INPUT']
  // A pipe that nobody writes to or closes would never end.
  const input = given !== undefined ? parsed(given, 'TOOL_INPUT') : isTold ? {} : parsed(await readInput(), 'stdin')
  for (const [key, value] of Object.entries(input)) {
    if (value === null) continue
    if (key === name && !Object.hasOwn(command.options, key)) {
      if (operands.length === 0) operands.push(textOf(key, value))
      continue
    }
    const [option, told] = optionOf(command, key, value)
    values[option] ??= told
  }
}

function optionOf({ options, input }: Command, key: string, value: unknown): [string, string | boolean | string[]] {
  const seconds = /^(ttl|wait)_seconds$/.exec(key)?.[1]
  const name = seconds ?? key.replaceAll('_', '-')
  const option: Option | undefined = name === 'dir' ? COMMON['dir'] : Object.hasOwn(options, name) ? options[name] : undefined
  if (!option) throw usageError(`there is no input ${show(key)}; there are ${[input, ...Object.keys(options), 'dir'].join(', ').replaceAll('-', '_')}`)
  if (seconds !== undefined) {
    if (typeof value !== 'number' || !(value >= 0 && value < Infinity)) throw usageError(`${key} takes a number, not ${show(value)}`)
    return [name, `${Math.round(value * 1000)}ms`]
  }
  if (option.list === true) return [name, Array.isArray(value) ? value.map((each) => textOf(key, each)) : listed(textOf(key, value))]
  if (option.value !== undefined) return [name, textOf(key, value)]
  if (typeof value !== 'boolean') throw usageError(`${key} takes true or false, not ${show(value)}`)
  return [name, value]
}

function textOf(key: string, value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  throw usageError(`${key} takes a text, not ${show(value)}`)
}

function parsed(text: string, from: string): object {
  if (text.trim() === '') return {}
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch {
    // The same sentence.
  }
  throw usageError(`${from} must be one JSON object, not ${show(text)}`)
}

// A hook is told its session on stdin; the shell of the same agent has it in its environment.
async function addSession(): Promise<void> {
  if (sessionOf() !== undefined) return
  try {
    const { session_id: session } = JSON.parse(await readInput()) as { session_id?: unknown }
    if (typeof session === 'string' && session !== '') process.env['LOCKPACT_SESSION'] = session
  } catch {
    // Not that kind of hook.
  }
}

async function readInput(): Promise<string> {
  let text = ''
  if (!process.stdin.isTTY) for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk as string
  return text
}
