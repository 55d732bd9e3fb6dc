/** The kernel without any program on top: each way to store what is received is one contender. */
import { CEILING_WAYS, type CeilingWay, measureCeiling } from '../../src/index.js'
import type { Contender } from './contender.js'

/** The network alone, which shows what storing costs and is no ceiling. */
export const DISCARD = 'kernel, discard'

export const kernelWays: Contender[] = CEILING_WAYS.map(kernelWay)

function kernelWay(way: CeilingWay): Contender {
  return {
    name: `kernel, ${way}`,
    kind: way === 'discard' ? 'peer' : 'ceiling',
    keepsCopies: false,
    async start({ source, copies, load: { clients } }) {
      return {
        async move() {
          const figures = await measureCeiling({ source, folder: copies, clients, way })
          if (!figures) throw new Error('not available: the file system does not take it')
          return { seconds: figures.seconds, cpuSeconds: figures.cpuSeconds }
        },
        async stop() {},
      }
    },
  }
}
