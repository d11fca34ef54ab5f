import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { expect, test } from 'vitest'
import { projectFolder } from './support.js'

/* The picture in CONTRIBUTING.md, held against the code. */

const LAYERS = ['core', 'files', 'work', 'jobs', 'cli', 'mcp']
const sources = readdirSync(join(projectFolder, 'lib'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
const source = (name: string) => readFileSync(join(projectFolder, 'lib', name), 'utf8')

function imports(name: string, kind: RegExp): string[] {
  return [...source(name).matchAll(kind)].map((match) => match[1]!)
}

const runtimeImports = (name: string) => imports(name, /^(?:import|export) (?!type )(?:[^'\n{]*(?:\{[^}]*\} )?from )?'([^']+)'/gm)
const resolved = (name: string, to: string) => normalize(join(dirname(name), to)).replace(/\.js$/, '.ts')

test('imports run downwards between the layers, and only through their doors', () => {
  const wrong: string[] = []
  for (const name of sources) {
    const from = LAYERS.indexOf(name.split('/')[0]!)
    for (const to of [...runtimeImports(name), ...imports(name, /import\('([^']+)'\)/g)].filter((to) => to.startsWith('.'))) {
      const target = resolved(name, to)
      const layer = LAYERS.indexOf(target.split('/')[0]!)
      const isOther = target.split('/')[0] !== name.split('/')[0]
      if (from >= 0 && layer > from) wrong.push(`${name} -> ${target}`)
      if (isOther && target.includes('/') && !target.endsWith('/index.ts')) wrong.push(`${name} -> ${target}, not by the door`)
    }
  }
  expect(wrong).toEqual([])
})

test('no circles', () => {
  const circles: string[] = []
  const seen = new Set<string>()
  const visit = (name: string, path: string[]) => {
    if (path.includes(name)) return void circles.push([...path.slice(path.indexOf(name)), name].join(' -> '))
    // There are many ways to one file, and what is behind it is the same on all of them.
    if (seen.has(name)) return
    seen.add(name)
    for (const to of runtimeImports(name).filter((to) => to.startsWith('.'))) visit(resolved(name, to), [...path, name])
  }
  for (const name of sources) visit(name, [])
  expect(circles).toEqual([])
})

test('the protocol touches the machine only through the seam', () => {
  for (const name of ['core/protocol.ts', 'core/liveness.ts']) {
    expect(source(name), name).not.toMatch(/\b(process\.|fs\.|performance|Date\.now|Math\.random|setTimeout|await|async|Promise)|new Date\(\)|from 'node:/)
    expect(runtimeImports(name).filter((to) => to === './system.js'), name).toEqual([])
  }
})

test('there is nothing to install at run time, and four packages for development', () => {
  const manifest = JSON.parse(readFileSync(join(projectFolder, 'package.json'), 'utf8')) as Record<string, Record<string, string> | undefined>
  expect(manifest['dependencies']).toBeUndefined()
  expect(Object.keys(manifest['devDependencies']!).sort()).toEqual(['@types/node', 'tsx', 'typescript', 'vitest'])
})

test('the map in CONTRIBUTING.md names every source file', () => {
  const map = readFileSync(join(projectFolder, 'CONTRIBUTING.md'), 'utf8')
  const missing = sources.filter((name) => !/^cli\/(?!bin|main|command)/.test(name) && !map.includes(name) && !map.includes(`\`${name.split('/').pop()}\``))
  expect(missing).toEqual([])
  for (const [, path] of map.matchAll(/^\| `(lib\/[^`]+|test\/[^`]+|templates\/)`/gm)) expect(existsSync(join(projectFolder, path!)), path).toBe(true)
})

test('the shipped JavaScript has no comments, the types have', () => {
  const shipped = readdirSync(join(projectFolder, 'dist'), { recursive: true, encoding: 'utf8' })
  for (const name of shipped.filter((name) => name.endsWith('.js'))) expect(readFileSync(join(projectFolder, 'dist', name), 'utf8'), name).not.toMatch(/^\s*(\/\/|\/\*)/m)
  expect(readFileSync(join(projectFolder, 'dist/core/lock.d.ts'), 'utf8')).toContain('Takes the lock of a file')
})
