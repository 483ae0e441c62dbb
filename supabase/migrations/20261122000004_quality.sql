-- All scores of models and iterations, what an iteration was made with, and its pictures; all jobs
-- of a project with what they committed. The functions are those of 20261122000003_exports.sql with
-- the new columns in them; documents only gained names, so replicas of the release before can share
-- the database. `project_detail_v1` and `committed_v1` hand out whole rows and stay as they are.

create or replace function public.schema_version_v1() returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select '20261122000004'
$$;

-- ---------------------------------------------------------------------------------------------
-- columns
--
-- scores: silhouette_iou, consistency, floaters, views (one object per view), extra (named
-- numbers); infinite numbers as text. {} in rows of the release before.
alter table public.gaussian_splat_models
    add column if not exists scores jsonb not null default '{}'
        constraint gaussian_splat_models_scores_is_an_object check (
            jsonb_typeof(scores) = 'object');
alter table public.refinement_metrics
    add column if not exists scores jsonb not null default '{}'
        constraint refinement_metrics_scores_is_an_object check (jsonb_typeof(scores) = 'object');
-- parameters, view_weights (view to trust), guards (sentences)
alter table public.enhancement_iterations
    add column if not exists detail jsonb not null default '{}'
        constraint enhancement_iterations_detail_is_an_object check (
            jsonb_typeof(detail) = 'object');
-- renders of the model before and after the round, and how far the target was trusted
alter table public.enhanced_views
    add column if not exists before_path text
        constraint enhanced_views_before_path_is_set check (before_path <> ''),
    add column if not exists after_path text
        constraint enhanced_views_after_path_is_set check (after_path <> ''),
    add column if not exists weight double precision
        constraint enhanced_views_weight_is_a_share check (weight between 0 and 1);

-- ---------------------------------------------------------------------------------------------
-- functions

-- running -> running. p_commit: {stage, seconds, detail, views, depths, models, iterations,
-- enhanced, exports, previews, sheets}, where lists may be left out, and in their rows what the
-- release before did not know. Replaces what the stage had committed; its place in the order stays.
create or replace function public.commit_stage_v1(p_job_id text, p_fence bigint, p_commit jsonb)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
    v_stage constant text := p_commit ->> 'stage';
    v_ordinal integer;
begin
    delete from job_stages where job_id = p_job_id and stage = v_stage
    returning ordinal into v_ordinal;
    if v_ordinal is null then
        select coalesce(max(ordinal), 0) + 1 into v_ordinal from job_stages
         where job_id = p_job_id;
    end if;
    insert into job_stages (job_id, stage, ordinal, seconds, fence, detail)
    values (p_job_id, v_stage, v_ordinal, (p_commit ->> 'seconds')::double precision, p_fence,
            coalesce(p_commit -> 'detail', '{}'));

    insert into multiview_generation (
        project_id, job_id, stage, view_index, image_path, azimuth_deg, elevation_deg, engine)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'views', '[]')) as r (
        view_index integer, image_path text, azimuth_deg double precision,
        elevation_deg double precision, engine text);

    insert into depth_maps (
        project_id, job_id, stage, view_index, depth_path, heat_map_path, engine, min_depth,
        max_depth)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'depths', '[]')) as r (
        view_index integer, depth_path text, heat_map_path text, engine text,
        min_depth double precision, max_depth double precision);

    insert into gaussian_splat_models (
        project_id, job_id, stage, version, model_path, engine, origin, splat_count,
        file_size_bytes, psnr, ssim, lpips, overall_quality, scores)
    select v_job.project_id, p_job_id, v_stage, r.version, r.model_path, r.engine, r.origin,
           r.splat_count, r.file_size_bytes, r.psnr, r.ssim, r.lpips, r.overall_quality,
           coalesce(r.scores, '{}')
      from jsonb_to_recordset(coalesce(p_commit -> 'models', '[]')) as r (
        version integer, model_path text, engine text, origin text, splat_count bigint,
        file_size_bytes bigint, psnr double precision, ssim double precision,
        lpips double precision, overall_quality double precision, scores jsonb);

    insert into enhancement_iterations (
        project_id, job_id, stage, iteration_number, accepted, model_version, enhance_engine,
        strength, learning_rate, seconds, note, detail)
    select v_job.project_id, p_job_id, v_stage, r.iteration_number, r.accepted, r.model_version,
           r.enhance_engine, r.strength, r.learning_rate, r.seconds, r.note,
           coalesce(r.detail, '{}')
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, accepted boolean, model_version integer, enhance_engine text,
        strength double precision, learning_rate double precision, seconds double precision,
        note text, detail jsonb);

    insert into refinement_metrics (
        project_id, job_id, stage, iteration_number, overall_quality, psnr, ssim, lpips, scores)
    select v_job.project_id, p_job_id, v_stage, r.iteration_number, r.overall_quality, r.psnr,
           r.ssim, r.lpips, coalesce(r.scores, '{}')
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, overall_quality double precision, psnr double precision,
        ssim double precision, lpips double precision, scores jsonb);

    insert into enhanced_views (
        project_id, job_id, stage, iteration_number, view_index, image_path, engine,
        before_path, after_path, weight)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'enhanced', '[]')) as r (
        iteration_number integer, view_index integer, image_path text, engine text,
        before_path text, after_path text, weight double precision);

    insert into export_history (
        project_id, job_id, stage, model_version, format, optimize, file_path, file_size_bytes,
        seconds, options, contents, saved, notes)
    select v_job.project_id, p_job_id, v_stage, r.model_version, r.format, r.optimize, r.file_path,
           r.file_size_bytes, r.seconds, coalesce(r.options, '{}'), coalesce(r.contents, '{}'),
           coalesce(r.saved, '{}'), coalesce(r.notes, '[]')
      from jsonb_to_recordset(coalesce(p_commit -> 'exports', '[]')) as r (
        model_version integer, format text, optimize boolean, file_path text,
        file_size_bytes bigint, seconds double precision, options jsonb, contents jsonb,
        saved jsonb, notes jsonb);

    insert into model_previews (
        project_id, job_id, stage, version, thumbnail_path, turntable_path)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'previews', '[]')) as r (
        version integer, thumbnail_path text, turntable_path text);

    insert into contact_sheets (project_id, job_id, stage, model_version, image_path)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'sheets', '[]')) as r (
        model_version integer, image_path text);

    perform add_job_event_v1(p_job_id, 'commit', jsonb_build_object(
        'stage', v_stage, 'seconds', (p_commit ->> 'seconds')::double precision,
        'progress', v_job.progress, 'attempt', v_job.attempt));
    return job_document_v1(v_job);
end
$$;

-- All jobs of a project, oldest first, with what they committed: what report and manifest read.
create or replace function public.project_jobs_v1(p_project_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
begin
    perform 1 from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'job', job_document_v1(j), 'stages', committed_v1(j.id)
               ) order by j.queue_number), '[]')
          from jobs j where j.project_id = p_project_id);
end
$$;
