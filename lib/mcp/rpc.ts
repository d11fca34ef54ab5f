import type { Readable, Writable } from 'node:stream'
import { show } from '../core/index.js'
import { isObject, problemIn, type Schema } from './schema.js'

/*
 * The Model Context Protocol on stdio: JSON-RPC 2.0, one message a line. Two eras are served, and which one is decided for each
 * request by itself; nothing is remembered between requests.
 *
 *     modern, 2026-07-28      version and capabilities in the `_meta` of every request; server/discover
 *     legacy, to 2025-11-25   initialize, notifications/initialized, ping
 *
 * A notification is never answered, an answer neither (nothing was asked). Whatever is broken gets an error, and the next line is read.
 */

/** A tool as a client sees it, and what it does. */
export interface Tool {
  name: string
  title: string
  description: string
  inputSchema: Schema
  outputSchema: Schema
  annotations: { readOnlyHint: boolean; destructiveHint: boolean; idempotentHint: boolean; openWorldHint: false }
  /** Gets arguments of the schema's shape. Waits no longer than `signal` lets it. */
  call(given: Record<string, unknown>, signal: AbortSignal): Promise<Answer>
}

/** `undo`: for when the answer could not be given to anybody. `error`: words for the agent. */
export type Answer = { content: object; undo?: () => Promise<unknown> } | { error: string }

export interface Server {
  info: { name: string; title: string; version: string }
  instructions: string
  tools: Tool[]
}

type Id = string | number
interface Message {
  id: Id | undefined
  method: string
  params: Record<string, unknown>
}
interface Failure {
  code: number
  message: string
  data?: object
}
type Reply = { result: object; undo?: (() => Promise<unknown>) | undefined } | { error: Failure }

const PARSE_ERROR = -32700
const INVALID_REQUEST = -32600
const METHOD_NOT_FOUND = -32601
const INVALID_PARAMS = -32602
const INTERNAL_ERROR = -32603
const UNSUPPORTED_VERSION = -32022

const MODERN = '2026-07-28'
const LEGACY = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']
const VERSION = 'io.modelcontextprotocol/protocolVersion'
const CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities'
const SERVER_INFO = 'io.modelcontextprotocol/serverInfo'
const SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId'
const CAPABLE_OF = { tools: {} }
/** The tools change with the version only. */
const CACHING = { ttlMs: 3_600_000, cacheScope: 'public' }
const GRACE_MS = 500
const MAX_LINE_BYTES = 32 * 1024 * 1024

/** Serves until the input ends, or nobody reads the output any more. Calls that wait then stop waiting soon, and are answered. */
export async function serve(server: Server, input: Readable, output: Writable): Promise<void> {
  const connection = new Connection(server, output)
  const lines = new Lines((line) => connection.receive(line))
  await new Promise<void>((resolve) => {
    input.on('data', (chunk: Buffer) => lines.add(chunk))
    input.once('end', () => lines.end())
    for (const event of ['end', 'error', 'close']) input.once(event, resolve)
    output.on('error', resolve)
  })
  input.destroy()
  await connection.end()
}

class Connection {
  readonly #server: Server
  readonly #output: Writable
  readonly #running = new Map<Id, { stop: AbortController; isCancelled: boolean; over: Promise<void> }>()

  constructor(server: Server, output: Writable) {
    this.#server = server
    this.#output = output
  }

  receive(line: Buffer | undefined): void {
    const read = readMessage(line)
    if (!read) return
    if ('error' in read) return void this.#send(read)
    const { id, method, params } = read
    if (id !== undefined) return this.#start({ id, method, params })
    const call = method === 'notifications/cancelled' ? this.#running.get(params['requestId'] as Id) : undefined
    if (!call) return
    call.isCancelled = true
    call.stop.abort()
  }

  /** Lets what is going on come to its end, but waits for nobody. */
  async end(): Promise<void> {
    const calls = [...this.#running.values()]
    const grace = setTimeout(() => calls.forEach(({ stop }) => stop.abort()), GRACE_MS)
    await Promise.all(calls.map(({ over }) => over))
    clearTimeout(grace)
  }

  #start(request: Message & { id: Id }): void {
    const { id } = request
    // The first one must not be taken for answered.
    if (this.#running.has(id)) return void this.#send(failure(INVALID_REQUEST, `the id ${show(id)} is in use by a request without an answer yet`))
    const call = { stop: new AbortController(), isCancelled: false, over: Promise.resolve() }
    this.#running.set(id, call)
    call.over = this.#answer(request, call.stop.signal).then(async (reply) => {
      this.#running.delete(id)
      if ('error' in reply) return void (call.isCancelled || (await this.#send({ id, ...reply })))
      const { result, undo } = reply
      // A token that nobody got to know would only be in the way.
      if (call.isCancelled || !(await this.#send({ id, result }))) await undo?.().catch(() => {})
    })
  }

  async #answer(request: Message & { id: Id }, signal: AbortSignal): Promise<Reply> {
    try {
      const era = eraOf(request)
      if (typeof era === 'object') return era
      const reply = await this.#dispatch(era, request, signal)
      if ('error' in reply || era === 'legacy') return reply
      const { _meta, ...result } = reply.result as { _meta?: object }
      return { ...reply, result: { resultType: 'complete', ...result, _meta: { ..._meta, [SERVER_INFO]: this.#server.info } } }
    } catch (error) {
      return failure(INTERNAL_ERROR, error instanceof Error ? error.message : String(error))
    }
  }

  #dispatch(era: 'modern' | 'legacy', { id, method, params }: Message & { id: Id }, signal: AbortSignal): Reply | Promise<Reply> {
    const { info, instructions } = this.#server
    switch (`${era} ${method}`) {
      case 'legacy initialize': {
        const { protocolVersion } = params
        if (typeof protocolVersion !== 'string') return failure(INVALID_PARAMS, 'protocolVersion is missing')
        const version = LEGACY.includes(protocolVersion) ? protocolVersion : LEGACY[0]
        return { result: { protocolVersion: version, capabilities: CAPABLE_OF, serverInfo: info, instructions } }
      }
      case 'legacy ping':
        return { result: {} }
      case 'modern server/discover':
        return { result: { supportedVersions: [MODERN], capabilities: CAPABLE_OF, instructions, ...CACHING } }
      case 'modern subscriptions/listen':
        return this.#listen(id, signal)
      case 'modern tools/list':
      case 'legacy tools/list':
        return this.#list(era, params)
      case 'modern tools/call':
      case 'legacy tools/call':
        return this.#call(params, signal)
      default:
        return failure(METHOD_NOT_FOUND, `there is no method ${show(method)}`)
    }
  }

  #list(era: 'modern' | 'legacy', { cursor }: Record<string, unknown>): Reply {
    if (cursor !== undefined) return failure(INVALID_PARAMS, 'cursor is not known: the list has one page')
    const tools = this.#server.tools.map(({ call, ...described }) => described)
    return { result: { tools, ...(era === 'modern' && CACHING) } }
  }

  async #call(params: Record<string, unknown>, signal: AbortSignal): Promise<Reply> {
    const { name, arguments: given = {} } = params
    const tool = this.#server.tools.find((each) => each.name === name)
    if (!tool) return failure(INVALID_PARAMS, `there is no tool ${show(name)}`)
    const problem = problemIn(tool.inputSchema, given)
    if (problem?.kind === 'shape') return failure(INVALID_PARAMS, `${tool.name}: ${problem.message}`)
    // What an agent can put right itself, it has to see.
    const answer = problem ? { error: problem.message } : await tool.call(given as Record<string, unknown>, signal)
    if ('error' in answer) return { result: { content: [{ type: 'text', text: answer.error }], isError: true } }
    const { content, undo } = answer
    return { result: { content: [{ type: 'text', text: JSON.stringify(content) }], structuredContent: content }, undo }
  }

  // Nothing here ever changes: the subscription stands, and is silent.
  async #listen(id: Id, signal: AbortSignal): Promise<Reply> {
    const _meta = { [SUBSCRIPTION]: id }
    await this.#send({ method: 'notifications/subscriptions/acknowledged', params: { _meta, notifications: {} } })
    await new Promise<void>((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve())))
    return { result: { _meta } }
  }

  // False when nobody can read it.
  #send(message: object): Promise<boolean> {
    return new Promise((resolve) => {
      this.#output.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`, (error) => resolve(!error))
    })
  }
}

function failure(code: number, message: string, data?: object): { error: Failure } {
  return { error: { code, message, ...(data && { data }) } }
}

// ---- messages ----

// Undefined for what asks for nothing.
function readMessage(line: Buffer | undefined): Message | ({ id?: Id } & { error: Failure }) | undefined {
  if (!line) return failure(INVALID_REQUEST, `a message must not have more than ${MAX_LINE_BYTES} bytes`)
  let message: unknown
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(line)
    if (text.trim() === '') return undefined
    message = JSON.parse(text)
  } catch {
    return failure(PARSE_ERROR, 'not a line of JSON in UTF-8')
  }
  if (!isObject(message)) return failure(INVALID_REQUEST, Array.isArray(message) ? 'there are no batches: one message a line' : 'a message is an object')
  const { jsonrpc, id, method, params = {} } = message
  const invalid = (why: string) => ({ ...(isId(id) && { id }), ...failure(INVALID_REQUEST, why) })
  if (jsonrpc !== '2.0') return invalid('jsonrpc must be "2.0"')
  if (method === undefined && ('result' in message || 'error' in message)) return undefined
  if (typeof method !== 'string') return invalid('method must be a text')
  const isRequest = Object.hasOwn(message, 'id')
  if (isRequest && !isId(id)) return invalid('id must be a text or a whole number')
  if (isObject(params)) return { id: isId(id) ? id : undefined, method, params }
  if (!isRequest) return undefined
  return Array.isArray(params) ? { id: id as Id, ...failure(INVALID_PARAMS, 'params must be an object') } : invalid('params must be an object')
}

function isId(id: unknown): id is Id {
  return typeof id === 'string' || Number.isSafeInteger(id)
}

function eraOf({ method, params: { _meta: meta = {} } }: Message): 'modern' | 'legacy' | { error: Failure } {
  if (!isObject(meta)) return failure(INVALID_PARAMS, '_meta must be an object')
  const isModern = VERSION in meta || CAPABILITIES in meta || method === 'server/discover' || method === 'subscriptions/listen'
  if (!isModern) return 'legacy'
  const { [VERSION]: requested, [CAPABILITIES]: capabilities } = meta
  if (typeof requested !== 'string') return failure(INVALID_PARAMS, `_meta must have ${VERSION}, a text`)
  if (requested !== MODERN) return failure(UNSUPPORTED_VERSION, 'Unsupported protocol version', { supported: [MODERN], requested })
  return isObject(capabilities) ? 'modern' : failure(INVALID_PARAMS, `_meta must have ${CAPABILITIES}, an object`)
}

// ---- lines ----

/** Cuts a stream into lines; undefined stands for one that was too long, which is not kept. */
class Lines {
  #parts: Buffer[] = []
  #size = 0
  readonly #take: (line: Buffer | undefined) => void

  constructor(take: (line: Buffer | undefined) => void) {
    this.#take = take
  }

  add(chunk: Buffer): void {
    let from = 0
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      this.#keep(chunk.subarray(from, end))
      this.end()
      from = end + 1
    }
    this.#keep(chunk.subarray(from))
  }

  /** The line is over; also the last one, without its newline. */
  end(): void {
    const line = this.#size > MAX_LINE_BYTES ? undefined : Buffer.concat(this.#parts)
    this.#parts = []
    this.#size = 0
    this.#take(line)
  }

  #keep(part: Buffer): void {
    this.#size += part.length
    if (this.#size > MAX_LINE_BYTES) this.#parts = []
    else this.#parts.push(part)
  }
}
