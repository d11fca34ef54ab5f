import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { decode } from '../lib/core/stamp.js'
import { commandPath, projectFolder, tempFolder } from './support.js'

/* Every example is read out of the document and run, as a user would: in a project where the package is installed. */

const DOCUMENTS = ['README.md', 'CONTRIBUTING.md', 'templates/CONTRIBUTING.md']

function examples(document: string): { language: string; code: string; line: number }[] {
  const text = readFileSync(join(projectFolder, document), 'utf8')
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map((match) => ({ language: match[1]!, code: match[2]!, line: text.slice(0, match.index).split('\n').length }))
}

/** A project with a memory folder, where lockpact is installed. */
function project(): string {
  const folder = tempFolder()
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true })
  symlinkSync(projectFolder, join(folder, 'node_modules/lockpact'))
  writeFileSync(join(folder, 'node_modules/.bin/lockpact'), `#!/bin/sh\nexec ${process.execPath} ${commandPath} "$@"\n`, { mode: 0o755 })
  cpSync(join(projectFolder, 'test/demo/memory'), join(folder, 'memory'), { recursive: true })
  writeFileSync(join(folder, 'memory/queue.md'), '# Queue\n')
  return folder
}

function run(language: string, code: string, folder: string) {
  if (language === 'sh') return spawnSync('sh', ['-e', '-c', code], { cwd: folder, encoding: 'utf8' })
  const file = join(folder, 'example.mts')
  writeFileSync(file, code)
  return spawnSync(process.execPath, ['--import', import.meta.resolve('tsx'), file], { cwd: folder, encoding: 'utf8' })
}

describe.each(DOCUMENTS)('%s', (document) => {
  const found = examples(document)

  test.each(found.filter(({ language }) => language === 'sh' || language === 'ts'))('the $language example at line $line works', ({ language, code }) => {
    const folder = project()
    const { status, stdout, stderr } = run(language, code.includes('TOKEN=') ? `${code}test -n "$TOKEN"` : code, folder)
    if (code.includes('lockpact status')) expect(stdout).toMatch(/^held .* hourly /m)
    expect(stderr.replace(/^(lockpact: |npm warn ).*\n/gm, '')).toBe('')
    expect(status).toBe(0)
    if (code.includes('an idea')) expect(readFileSync(join(folder, 'memory/queue.md'), 'utf8')).toBe('# Queue\n- [ ] an idea\n')
    // Nothing is left: who comes next gets every lock.
    expect(spawnSync('find', ['memory', '-name', '*.lock*'], { cwd: folder, encoding: 'utf8' }).stdout).toBe('')
  })

  test.each(found.filter(({ language }) => language === 'json'))('the stamp at line $line is one', ({ code }) => {
    expect(decode(code).kind).toBe('stamp')
  })

  test('has no example that nobody runs', () => {
    expect(found.map(({ language }) => language).filter((language) => !['sh', 'ts', 'json', 'text'].includes(language))).toEqual([])
    expect(found.length).toBeGreaterThan(0)
  })
})

test('the convention in CONTRIBUTING.md is the template, word for word', () => {
  const text = readFileSync(join(projectFolder, 'CONTRIBUTING.md'), 'utf8')
  const between = text.split('<!-- lockpact:convention -->\n')[1]?.split('<!-- /lockpact:convention -->')[0]
  expect(between).toBe(readFileSync(join(projectFolder, 'templates/CONTRIBUTING.md'), 'utf8'))
})

test('the README names the two commands', () => {
  const readme = readFileSync(join(projectFolder, 'README.md'), 'utf8')
  expect(readme).toContain('npm ci && npm run demo')
  expect(readme).toContain('npm ci && npm test')
})

test.each(examples('templates/CONTRIBUTING.md').filter(({ language }) => language !== 'json'))('refused, the example at line $line touches nothing', ({ language, code }) => {
  const folder = project()
  writeFileSync(join(folder, 'memory/queue.md.lock'), '{"v":1,"owner":"me"}\n')
  const { status, stderr } = run(language, code.replace("wait: '30s'", "wait: '100ms'").replace('--wait 30s', ''), folder)
  if (code.startsWith('node -e')) expect(status).toBe(75)
  expect(stderr).not.toBe('')
  expect(readFileSync(join(folder, 'memory/queue.md'), 'utf8')).toBe('# Queue\n')
  expect(readFileSync(join(folder, 'memory/queue.md.lock'), 'utf8')).toBe('{"v":1,"owner":"me"}\n')
})
