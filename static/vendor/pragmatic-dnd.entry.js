export { draggable, dropTargetForElements, monitorForElements } from "@atlaskit/pragmatic-drag-and-drop/element/adapter";
export { combine } from "@atlaskit/pragmatic-drag-and-drop/combine";
export { setCustomNativeDragPreview } from "@atlaskit/pragmatic-drag-and-drop/element/set-custom-native-drag-preview";
export { pointerOutsideOfPreview } from "@atlaskit/pragmatic-drag-and-drop/element/pointer-outside-of-preview";
export { attachClosestEdge, extractClosestEdge } from "@atlaskit/pragmatic-drag-and-drop-hitbox/closest-edge";
export { autoScrollForElements } from "@atlaskit/pragmatic-drag-and-drop-auto-scroll/element";
export { announce, cleanup } from "@atlaskit/pragmatic-drag-and-drop-live-region";
