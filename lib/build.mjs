/*
 * Bundles dist/js, which tsc made without comments, into one file per layer: every module costs a third of a millisecond at start.
 * The command is split, so that it loads what it needs. esbuild comes with tsx.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { buildSync } from 'esbuild'

const PUBLIC = ['index', 'files', 'work', 'jobs']
const LAYERS = ['core', 'files', 'work', 'jobs']

const common = {
  bundle: true,
  // Its readers have the sources and the docstrings; the package stays small.
  minify: true,
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
buildSync({ ...common, entryPoints: ['dist/js/cli/main.js'], external: doors('..'), splitting: true, outbase: 'dist/js/cli', outdir: 'dist/cli' })
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

const needed = new Set()
function need(name) {
  if (needed.has(name)) return
  needed.add(name)
  const text = direct(name)
  writeFileSync(join('dist', name), text)
  for (const [, from] of text.matchAll(/from '(\.[^']*)'|import\("(\.[^"]*)"\)/g)) need(moduleOf(name, from))
}
for (const name of PUBLIC) need(`${name}.d.ts`)
for (const name of declared) if (!needed.has(name)) rmSync(join('dist', name))
