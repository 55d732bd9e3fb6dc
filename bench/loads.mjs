// What is moved, and who takes part.
import { kernelPaths } from './contenders/ceiling.mjs'
import { curl } from './contenders/curl.mjs'
import { rsyncArchive, rsyncWholeFile } from './contenders/rsync.mjs'
import { xferd } from './contenders/xferd.mjs'
import { writeRandomFile, writeRandomTree } from './disk.mjs'

export const FILE_BYTES = 469_200_000
const TREE = { folders: 100, filesPerFolder: 100, fileBytes: 4096 }
const TREE_FILES = TREE.folders * TREE.filesPerFolder

/** By the names that `--only` knows. `bytes` are those of all copies together; `keepsCopies` until all rounds are over. */
export const LOADS = {
  1: clientsLoad(1, [...kernelPaths, xferd, rsyncWholeFile, curl]),
  10: clientsLoad(10, [...kernelPaths, xferd]),
  50: clientsLoad(50, [...kernelPaths, xferd]),
  tree: {
    title: `a tree of ${TREE_FILES.toLocaleString('en')} files of ${TREE.fileBytes / 1024} KiB`,
    clients: 1,
    bytes: TREE_FILES * TREE.fileBytes,
    contenders: [xferd, rsyncArchive],
    keepsCopies: true,
    writeSource: (path) => writeRandomTree(path, TREE),
  },
}

function clientsLoad(clients, contenders) {
  const bytes = clients * FILE_BYTES
  return {
    title: `${clients} ${clients === 1 ? 'client' : 'clients'}, ${(bytes / 1e6).toLocaleString('en')} MB`,
    clients,
    bytes,
    contenders,
    writeSource: (path) => writeRandomFile(path, FILE_BYTES),
  }
}
