/** The ways to the disk that a server can be told to take. */
import type { ServeOptions } from '../src/index.js'

export type WritePath = NonNullable<ServeOptions['writePath']>

export const WRITE_PATHS = ['auto', 'cached', 'uncached', 'direct', 'paced'] as const satisfies WritePath[]
