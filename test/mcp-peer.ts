/*
 * What the tests of the MCP server share: a server to talk to line by line, and packages that a test installs for itself, outside of
 * this one.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { withLock } from 'lockpact'
import { initWorkspace } from 'lockpact/work'
import { type Child, commandPath, start, tempFolder } from './support.js'

export type Json = any // eslint-disable-line

export const MODERN = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }

/** `lockpact mcp`, and what came from it. */
export class Peer {
  readonly child: Child
  /** Messages that answer nothing in particular. */
  readonly others: Json[] = []
  /** Told of each of them. */
  onOther: (message: Json) => void = () => {}
  readonly #waiting = new Map<unknown, (message: Json) => void>()
  #last = 0

  constructor(dir: string, args: string[] = [], env: Record<string, string> = {}) {
    this.child = start([process.execPath, commandPath, 'mcp', ...args], { cwd: dir, env: { LOCKPACT_DIR: '', ...env } })
    this.child.process.stdin!.on('error', () => {})
    void this.#read()
  }

  async #read(): Promise<void> {
    for (;;) {
      const line = await this.child.line().catch(() => undefined)
      if (line === undefined) break
      const message = JSON.parse(line)
      const take = this.#waiting.get(message.id)
      if (take) this.#waiting.delete(message.id)
      if (take) take(message)
      else {
        this.others.push(message)
        this.onOther(message)
      }
    }
    for (const take of this.#waiting.values()) take(undefined)
  }

  send(message: unknown): void {
    this.child.process.stdin!.write(typeof message === 'string' || Buffer.isBuffer(message) ? message : `${JSON.stringify(message)}\n`)
  }

  /** The whole answer; undefined when the server ended without one. */
  ask(method: string, params?: object, id: string | number = ++this.#last): Promise<Json> {
    const answer = this.expect(id)
    this.send({ jsonrpc: '2.0', id, method, ...(params && { params }) })
    return answer
  }

  expect(id: string | number): Promise<Json> {
    return new Promise((resolve) => this.#waiting.set(id, resolve))
  }

  /** The result of a tool, in the legacy era. */
  async tool(name: string, given: object = {}): Promise<Json> {
    const answer = await this.ask('tools/call', { name, arguments: given })
    if (answer?.error) throw new Error(`${name}: ${answer.error.message}`)
    return answer?.result
  }

  /** What a tool says in its structured content. */
  async call(name: string, given: object = {}): Promise<Json> {
    const result = await this.tool(name, given)
    if (result?.isError) throw new Error(`${name}: ${result.content[0].text}`)
    return result?.structuredContent
  }

  /** What a tool says in its error. */
  async problem(name: string, given: object): Promise<string> {
    const { isError, content } = await this.tool(name, given)
    if (!isError) throw new Error(`${name} is no error: ${content[0].text}`)
    return content[0].text
  }

  async end(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    this.child.process.stdin!.end()
    return this.child.ended
  }

  async kill(): Promise<void> {
    this.child.process.kill('SIGKILL')
    await this.child.ended
  }
}

/** A workspace, and a server in it. */
export function workspaceWithServer(): { dir: string; peer: Peer } {
  const dir = tempFolder()
  initWorkspace(dir)
  return { dir, peer: new Peer(dir) }
}

/** The versions that the tests were written with. */
const VERSIONS: Record<string, string> = {
  '@modelcontextprotocol/sdk': '1.32.2',
  '@modelcontextprotocol/client': '2.4.0',
  '@modelcontextprotocol/inspector': '2.12.0',
  '@modelcontextprotocol/conformance': '0.2.0-alpha.12',
  node: '22.23.3',
}

/** The folder in which these packages are installed, once for all test runs; or why they are not. */
export async function installed(...names: string[]): Promise<{ folder: string } | { why: string }> {
  const packages = names.map((name) => `${name}@${VERSIONS[name]}`)
  const folder = join(tmpdir(), 'lockpact-test-packages', packages.join('+').replaceAll(/[@/]+/g, '-'))
  mkdirSync(folder, { recursive: true })
  return withLock(join(folder, 'package.json'), { wait: '5m' }, () => {
    if (existsSync(join(folder, 'complete'))) return { folder }
    try {
      writeFileSync(join(folder, 'package.json'), '{"private":true}\n')
      execFileSync('npm', ['install', '--silent', '--no-audit', '--no-fund', '--fetch-retries=1', ...packages], { cwd: folder, stdio: 'pipe' })
      writeFileSync(join(folder, 'complete'), '')
      return { folder }
    } catch (error) {
      return { why: `${packages.join(' ')} could not be installed: ${String((error as Error).message).split('\n')[0]}` }
    }
  })
}

/** A module of an installed package. */
export function load(folder: string, name: string): Promise<Json> {
  return import(pathToFileURL(createRequire(join(folder, 'package.json')).resolve(name)).href)
}
