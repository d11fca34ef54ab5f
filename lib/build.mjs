/*
 * Makes dist/: one file per layer, since every module costs a third of a millisecond at start; the command splits, to load only
 * what a command needs. No comments: they are in the types. esbuild comes with tsx, as typescript comes with vitest.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { buildSync } from 'esbuild'

rmSync('dist', { recursive: true, force: true })
const layer = (entry, external) =>
  buildSync({ entryPoints: [`lib/${entry}.ts`], outbase: 'lib', outdir: 'dist', bundle: true, external, platform: 'node', format: 'esm', target: 'node20.19', legalComments: 'none', logLevel: 'warning' })
layer('core/index', [])
layer('index', ['./core/index.js'])
buildSync({ entryPoints: ['lib/cli/main.ts'], outdir: 'dist/cli', splitting: true, bundle: true, external: ['../core/index.js'], platform: 'node', format: 'esm', target: 'node20.19', legalComments: 'none', logLevel: 'warning' })

// The names of the sources are comments too.
for (const name of readdirSync('dist', { recursive: true })) {
  const path = `dist/${name}`
  if (path.endsWith('.js')) writeFileSync(path, readFileSync(path, 'utf8').replace(/^\/\/ lib\/.*\n/gm, ''))
}
