// three.js reads KHR_gaussian_splatting: node three_splats.mjs model.glb; prints JSON.
// What it makes of a splat: centre, covariance (xx, xy, xz, yy, yz, zz) and sRGB bytes with alpha.
import { readFileSync } from 'node:fs';

globalThis.self = globalThis;
const { GLTFLoader } = await import('three/addons/loaders/GLTFLoader.js');
const { GLTFGaussianSplatLoaderExtension } = await import(
    'three/addons/loaders/GLTFGaussianSplatLoaderExtension.js'
);

const file = readFileSync(process.argv[2]);
const loader = new GLTFLoader();
loader.register(parser => new GLTFGaussianSplatLoaderExtension(parser));
const buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
const { scene } = await loader.parseAsync(buffer, '');
scene.updateMatrixWorld(true);
scene.traverse((object) => {
    if (!object.isGaussianSplat) return;
    const { attributes } = object.splatGeometry;
    console.log(JSON.stringify({
        matrix: object.matrixWorld.toArray(),
        centers: Array.from(attributes.position.array),
        covariances: Array.from(attributes.covariance.array),
        colors: Array.from(attributes.color.array),
        harmonics: Object.keys(attributes).filter(name => name.startsWith('spherical')).length
    }));
});
