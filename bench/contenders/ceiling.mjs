// The kernel without any program on top: ceiling.c, whose paths are one contender each.
import { join } from 'node:path'
import { find, run } from '../processes.mjs'

const SOURCE = join(import.meta.dirname, '../ceiling/ceiling.c')

/** The best of those that store what they receive is the ceiling. */
export const kernelPaths = [
  kernelPath('discard', false),
  kernelPath('plain', true),
  kernelPath('prealloc', true),
  kernelPath('dontcache', true),
  kernelPath('direct', true),
]

function kernelPath(path, isCeiling) {
  return {
    name: `kernel, ${path}`,
    isCeiling,
    removesCopies: true,

    async prepare(folder) {
      if (process.platform !== 'linux') throw new Error('the ceiling is measured on Linux only')
      const compiler = find('cc')
      if (!compiler) throw new Error('there is no C compiler (cc)')
      compiled ??= run(compiler, '-O2', '-o', join(folder, 'ceiling'), SOURCE)
      await compiled
    },

    async start(folder, root) {
      return {
        async push(source, clients) {
          const { stdout } = await run(join(folder, 'ceiling'), source, root, `${clients}`, '1', path)
          const [line] = stdout.split('\n')
          return { mb_per_s: JSON.parse(line).mb_per_s }
        },
        async stop() {},
      }
    },
  }
}

/** Once for all of them. */
let compiled
