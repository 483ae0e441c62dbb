// three.js reads a .glb as a web page would: node three_load.mjs model.glb; prints JSON.
// Everything is in the space of the scene, with normalised integers and node transforms undone.
// Pictures are not decoded: node has no canvas.
import { readFileSync } from 'node:fs';

globalThis.self = globalThis;
const { Box3, Vector3 } = await import('three');
const { GLTFLoader } = await import('three/addons/loaders/GLTFLoader.js');

const file = readFileSync(process.argv[2]);
const loader = new GLTFLoader();
loader.register(() => ({ name: 'no-pictures', loadTexture: () => Promise.resolve(null) }));
const buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
const { scene, asset } = await loader.parseAsync(buffer, '');
scene.updateMatrixWorld(true);

function rows(attribute) {
    const getters = ['getX', 'getY', 'getZ', 'getW'].slice(0, attribute.itemSize);
    return Array.from({ length: attribute.count }, (_, i) => getters.map(get => attribute[get](i)));
}

const objects = [];
scene.traverse((object) => {
    if (!object.geometry) return;
    const { geometry, material } = object;
    const box = new Box3().setFromObject(object, true);
    const positions = rows(geometry.attributes.position)
        .map(p => new Vector3(...p).applyMatrix4(object.matrixWorld).toArray());
    objects.push({
        name: object.name,
        kind: object.type,
        box: [box.min.toArray(), box.max.toArray()],
        triangles: geometry.index ? geometry.index.count / 3 : 0,
        faces: geometry.index ? Array.from(geometry.index.array) : [],
        positions,
        attributes: Object.fromEntries(
            Object.entries(geometry.attributes).map(([name, attribute]) => [name, rows(attribute)])
        ),
        material: {
            type: material.type,
            side: material.side,
            color: material.color.toArray(),
            metalness: material.metalness,
            roughness: material.roughness,
            vertexColors: material.vertexColors
        }
    });
});
console.log(JSON.stringify({ generator: asset.generator, objects }));
