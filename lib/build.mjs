/*
 * Bundles dist/js, which tsc made without comments, into one file per layer: every module costs a third of a millisecond at start.
 * The command is split, so that it loads what it needs. esbuild comes with tsx.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { buildSync } from 'esbuild'

const PUBLIC = ['index', 'files', 'work', 'jobs']
const LAYERS = ['core', 'files', 'work', 'jobs', 'mcp']

const common = {
  bundle: true,
  // Its readers have the sources and the docstrings; the package stays small.
  minify: true,
  // Of an uncaught error, Node prints the whole line.
  lineLimit: 120,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  outbase: 'dist/js',
  outdir: 'dist',
  logLevel: 'warning',
}
const doors = (folder) => LAYERS.map((layer) => `${folder}/${layer}/index.js`)

for (const layer of LAYERS) buildSync({ ...common, entryPoints: [`dist/js/${layer}/index.js`], external: doors('..') })
buildSync({ ...common, entryPoints: PUBLIC.map((name) => `dist/js/${name}.js`), external: doors('.') })
buildSync({ ...common, entryPoints: [{ in: 'dist/js/cli/bin.js', out: 'main' }], external: doors('..'), splitting: true, outdir: 'dist/cli' })
rmSync('dist/js', { recursive: true })

/*
 * Types: a name that comes through a door comes from its module, and what no public name needs is not shipped.
 */
const FROM_DOOR = /^(import|export)( type)? \{ ([^}]*) \} from '(\.[^']*\/index\.js)';$/gm

const declared = readdirSync('dist', { recursive: true }).filter((name) => name.endsWith('.d.ts'))
const typesOf = Object.fromEntries(declared.map((name) => [name, readFileSync(join('dist', name), 'utf8')]))
const moduleOf = (name, from) => join(dirname(name), from).replace(/\.js$/, '.d.ts')

/** Which module has each name of a door. */
function origins(door) {
  const list = [...typesOf[door].matchAll(/export (?:type )?\{ ([^}]*) \} from '([^']*)'/g)]
  return new Map(list.flatMap(([, names, from]) => names.split(', ').map((name) => [name.replace(/^type /, ''), moduleOf(door, from)])))
}

function direct(name) {
  return typesOf[name].replace(FROM_DOOR, (_, verb, type, names, from) => {
    const modules = origins(moduleOf(name, from))
    const line = (each) => `${verb}${type ?? ''} { ${each} } from './${relative(dirname(name), modules.get(each.replace(/^type /, ''))).replace(/\.d\.ts$/, '.js')}';`
    return names.split(', ').map(line).join('\n').replaceAll("'./../", "'../")
  })
}

/** The declarations, imports and exports of a module, each with its comment, and the words in it. */
function partsOf(text) {
  const START = '/\\*\\*|(?:export|declare|import|interface|type)\\b'
  return text.split(new RegExp(`(?<!\\*/)\\n(?=${START})`)).map((part) => {
    const code = part.replace(/\/\*[\s\S]*?\*\//g, '')
    const [, name] = /^\s*(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|const|function) (\w+)/.exec(code) ?? []
    const [, names, from] = /\{ ([^}]*) \} from '(\.[^']*)';/.exec(code) ?? []
    return { text: part.trimEnd(), name, words: new Set(code.match(/\w+/g)), from, names: names?.split(', ').map((each) => each.replace(/^type | as .*$/g, '')) ?? [] }
  })
}

const parts = Object.fromEntries(declared.map((name) => [name, partsOf(direct(name))]))
const needed = new Set()
function need(module, part) {
  if (needed.has(part)) return
  needed.add(part)
  for (const name of part.names) needNamed(moduleOf(module, part.from), name)
  for (const [, from, name] of part.text.matchAll(/import\("(\.[^"]*)"\)\.(\w+)/g)) needNamed(moduleOf(module, from), name)
  for (const word of part.words) needNamed(module, word)
}
function needNamed(module, name) {
  for (const part of parts[module]) if (part.name === name || part.names.includes(name)) need(module, part)
}
for (const name of PUBLIC) for (const part of parts[`${name}.d.ts`]) need(`${name}.d.ts`, part)
for (const name of declared) {
  const kept = parts[name].filter((part) => needed.has(part)).map(({ text }) => `${text}\n`)
  if (kept.length > 0) writeFileSync(join('dist', name), kept.join(''))
  else rmSync(join('dist', name))
}
