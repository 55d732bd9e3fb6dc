/** What can wait for sockets. */
import type { ServeOptions } from '../src/index.js'

export const BACKENDS = ['auto', 'mio', 'uring'] as const satisfies NonNullable<ServeOptions['backend']>[]
