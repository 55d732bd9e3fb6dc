// Builds dist/: the SDK (CommonJS, its ESM face, declarations) and the command line, bundled into one file.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { build } from 'esbuild'

rmSync('dist', { recursive: true, force: true })
execFileSync('tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' })
const { metafile } = await build({
  entryPoints: { cli: 'cli/index.ts' },
  outdir: 'dist',
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  metafile: true,
})
writeFileSync('dist/THIRD-PARTY.txt', notices(packagesIn(metafile)).join('\n\n'))

/** The folders of the packages that went into the bundle. */
function packagesIn({ inputs }) {
  const folders = Object.keys(inputs).map((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0])
  return [...new Set(folders.filter(Boolean))].sort()
}

/** Their licences ask to be kept with every copy. */
function notices(folders) {
  return folders.map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    const texts = readdirSync(folder).filter((file) => /^licen[cs]e/i.test(basename(file)))
    return [
      `${name} ${version} (${license})`,
      ...texts.map((file) => readFileSync(join(folder, file), 'utf8')),
    ].join('\n')
  })
}
