-- Opens reading to everybody who has the anonymous key, as a demo with a public gallery wants it.
-- Not part of the migrations. Whoever has the key then sees every project and every picture, and
-- can list and download every file. Nobody can write anything, nor read webhooks, options of jobs or
-- idempotency keys, nor sign links of files.
--
--   open:   paste this file into the SQL editor (`glimpse3d supabase sql --demo` prints it)
--   close:  paste the output of `glimpse3d supabase sql` again
--
-- Where single columns are opened, ask for them by name: `select=*` is refused.

begin;

do $$
begin
    if to_regprocedure('storage.allow_any_operation(text[])') is null then
        raise exception 'The Storage of this project is too old for a demo: it could not keep '
            'strangers from signing links that work for years. Nothing was changed. Update Storage, '
            'or make single buckets public in the dashboard.';
    end if;
end
$$;

grant select on
    public.multiview_generation, public.depth_maps, public.gaussian_splat_models,
    public.enhancement_iterations, public.refinement_metrics, public.enhanced_views,
    public.export_history, public.model_previews, public.contact_sheets, public.view_edits,
    public.project_summary, public.refinement_progress
    to anon, authenticated;
grant select (id, status, current_step, progress_percentage, error, created_at, updated_at,
              current_version)
    on public.projects to anon, authenticated;
grant select (id, project_id, state, position, original_path, processed_path, background_engine,
              side, azimuth_deg, elevation_deg, notes, created_at)
    on public.project_photos to anon, authenticated;
grant select (id, project_id, kind, state, stage, step, progress, attempt, created_at, started_at,
              finished_at)
    on public.jobs to anon, authenticated;

do $do$
declare
    v_table text;
begin
    foreach v_table in array array[
        'projects', 'project_photos', 'jobs', 'multiview_generation', 'depth_maps',
        'gaussian_splat_models', 'enhancement_iterations', 'refinement_metrics', 'enhanced_views',
        'export_history', 'model_previews', 'contact_sheets'] loop
        execute format('drop policy if exists glimpse3d_demo_read on public.%I', v_table);
        execute format('create policy glimpse3d_demo_read on public.%I for select '
                       'to anon, authenticated using (true)', v_table);
    end loop;
end
$do$;

drop policy if exists glimpse3d_no_select on storage.objects;
drop policy if exists glimpse3d_demo_read on storage.objects;
create policy glimpse3d_demo_read on storage.objects for select to anon, authenticated
    using (bucket_id = any (array[
        'project-uploads', 'processed-images', 'multiview-images', 'depth-maps', 'enhanced-views',
        '3d-models']));
-- Says no beside everybody's policies: a link that somebody has signed works until the time that
-- they asked for, also after the demo was closed.
drop policy if exists glimpse3d_demo_no_links on storage.objects;
create policy glimpse3d_demo_no_links on storage.objects as restrictive for select to public
    using (not storage.allow_any_operation(array['object.sign', 'object.sign_many'])
        or bucket_id <> all (array[
            'project-uploads', 'processed-images', 'multiview-images', 'depth-maps',
            'enhanced-views', '3d-models']));

commit;
