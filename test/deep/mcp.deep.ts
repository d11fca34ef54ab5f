/*
 * The MCP server under the Inspector's command line, and under the official conformance suite; both need Node 22, which the npm package
 * `node` has.
 */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { initWorkspace } from 'lockpact/work'
import { expect, test } from 'vitest'
import { installed, type Json } from '../mcp-peer.js'
import { commandPath, tempFolder } from '../support.js'
import { bridge } from './mcp-bridge.js'

const run = promisify(execFile)

async function under22(name: string, command: string): Promise<{ why: string } | ((args: string[], cwd: string) => Promise<{ stdout: string; stderr: string; code: number }>)> {
  const packages = await installed('node', name)
  if ('why' in packages) return packages
  const modules = join(packages.folder, 'node_modules')
  const { bin } = JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8'))
  const script = join(modules, name, bin[command])
  return async (args, cwd) => {
    // Both keep files of their own at home.
    const options = { cwd, env: { ...process.env, HOME: cwd }, maxBuffer: 100_000_000 }
    return run(join(modules, '.bin/node'), [script, ...args], options).then(
      (out) => ({ ...out, code: 0 }),
      (error: Json) => ({ stdout: error.stdout, stderr: error.stderr, code: error.code }),
    )
  }
}

test('the Inspector lists the tools without a complaint, and calls them', async ({ skip }) => {
  const inspector = await under22('@modelcontextprotocol/inspector', 'mcp-inspector')
  if ('why' in inspector) return skip(inspector.why)
  const [dir, home] = [tempFolder(), tempFolder()]
  initWorkspace(dir)
  writeFileSync(join(dir, 'queue.md'), '- [ ] an item\n')
  const inspect = async (...args: string[]) => {
    const { stdout, stderr, code } = await inspector(['--cli', ...args, '--cwd', dir, process.execPath, commandPath, 'mcp'], home)
    expect(code, stderr).toBe(0)
    return { answer: JSON.parse(stdout) as Json, stderr }
  }
  const { answer, stderr } = await inspect('--method', 'tools/list', '--strict')
  expect(stderr).not.toMatch(/^(Warning|Error):/m)
  expect(answer.tools.length).toBeGreaterThan(10)
  const call = async (name: string, given: Record<string, string>) => (await inspect('--method', 'tools/call', '--tool-name', name, '--tool-arg', ...Object.entries(given).map((pair) => pair.join('=')))).answer.structuredContent
  const { granted, token } = await call('claim', { resource: 'a.md', owner: 'inspector', ttl_seconds: '60' })
  expect(granted).toBe(true)
  expect(await call('claim', { resource: 'a.md' })).toMatchObject({ granted: false, holder: 'inspector' })
  expect(await call('release', { resource: 'a.md', token })).toMatchObject({ released: true })
  expect(await call('gate', { key: 'k' })).toMatchObject({ go: true })
  expect(await call('take_item', { queue: 'queue.md' })).toMatchObject({ taken: true })
  expect(await call('append_line', { file: 'log.md', text: 'a line' })).toMatchObject({ appended: true })
  await call('jobs', { action: 'create', fields: '{"name":"job","description":"old","schedule":{"kind":"every","every":"1h"},"task":"x"}' })
  expect((await call('jobs', { action: 'update', job: 'job', fields: '{"description":null,"timeout":"5m"}' })).changed).toEqual({ description: { before: 'old' }, timeout: { after: '5m' } })
})

/** What the suite asks of its own example server, or of HTTP. A check that is not named here must not fail. */
const DOES_NOT_APPLY: [RegExp, string][] = [
  [/^(resources|sep-2164|sep-2549-resources)/, 'there are no resources'],
  [/^(prompts|sep-2549-prompts)/, 'there are no prompts'],
  [/^(completion|logging)/, 'there is nothing to complete, and nothing is logged by messages'],
  [/^(tools-call-|tools-name|elicitation|sep-1034|sep-1330|input-required|incomplete-result|sep-2322|json-schema-2020-12|tool-with)/, 'calls tools of the suite’s example server'],
  [/^sep-2575-(server-rejects-undeclared-capability|missing-capability-http-400|http-server-no-independent-requests-on-stream|server-no-log-without-loglevel)$/, 'calls tools of the suite’s example server'],
  [/^(dns-rebinding|localhost-host|sep-2243|http-|sep-2575-http-server-header-mismatch|server-session|server-sse)/, 'is about HTTP: headers, origins, sessions, streams'],
  [/^(tasks|sep-2663)/, 'tasks are an extension'],
]

test.for(['2025-11-25', '2026-07-28'])('the conformance suite of %s finds nothing wrong where it applies', async (revision, { skip }) => {
  const conformance = await under22('@modelcontextprotocol/conformance', 'conformance')
  if ('why' in conformance) return skip(conformance.why)
  const [dir, results] = [tempFolder(), tempFolder()]
  initWorkspace(dir)
  const { url, close } = await bridge(dir)
  const { stdout } = await conformance(['server', '--url', url, '--requirements', revision, '--output-dir', join(results, 'out')], results)
  await close()
  expect(stdout).toContain('=== SUMMARY ===')
  const counts = { passed: 0, wrong: [] as string[], apart: new Map<string, number>() }
  for (const scenario of readdirSync(join(results, 'out'))) {
    for (const { id, status, errorMessage } of JSON.parse(readFileSync(join(results, 'out', scenario, 'checks.json'), 'utf8'))) {
      const [, why] = DOES_NOT_APPLY.find(([pattern]) => pattern.test(id)) ?? []
      if (status === 'SUCCESS') counts.passed++
      else if (status === 'FAILURE' && why === undefined) counts.wrong.push(`${scenario}: ${id}: ${errorMessage}`)
      else if (status === 'FAILURE') counts.apart.set(why!, (counts.apart.get(why!) ?? 0) + 1)
    }
  }
  console.log(`${revision}: ${counts.passed} checks passed; left out: ${[...counts.apart].map(([why, count]) => `${count} (${why})`).join(', ')}`)
  expect(counts.wrong).toEqual([])
  expect(counts.passed).toBeGreaterThan(30)
})
